"""Build a dataset ahead of training. Otherwise, training builds it on startup.

python -m stii_jax.data.build --dataset bouncing_balls --variant color4 --options '{"num_train": 1000}'
"""

import argparse
import json
from pathlib import Path
from typing import Any

from stii_jax.data import DATASETS
from stii_jax.data.errors import DataError, unknown
from stii_jax.errors import UserError, check_platform


def main(arguments: list[str] | None = None) -> None:
    """Build the dataset that the command line (or `arguments`) names, and print a summary of it."""
    parser = argparse.ArgumentParser(
        prog="python -m stii_jax.data.build", description="Build a dataset, unless it exists already."
    )
    parser.add_argument("--dataset", required=True, help=f"one of: {', '.join(DATASETS)}")
    parser.add_argument("--variant", help="without it, the variants of the dataset are listed")
    parser.add_argument("--options", default="{}", help='changes to the variant, as JSON: {"image_size": 32}')
    parser.add_argument("--data_dir", default="", help="default: $STII_DATA_DIR, or ~/.cache/stii_jax")
    parser.add_argument("--manual_dir", default="", help="files you downloaded; default: manual/DATASET in data_dir")
    parser.add_argument("--overwrite", action="store_true", help="rebuild the dataset if it exists")
    args = parser.parse_args(arguments)
    try:
        check_platform()
        options = _parse_options(args.options)
        if args.variant is None:
            raise DataError(f"give --variant: {', '.join(_variants(args.dataset))}")

        from stii_jax.data.catalog import prepare

        folders = (args.data_dir, args.manual_dir)
        builder = prepare(args.dataset, args.variant, options, *folders, overwrite=args.overwrite)
    except (UserError, OSError) as error:
        raise SystemExit(f"error: {error}") from error
    config = builder.builder_config
    folder = Path(builder.data_path)
    size = sum(file.stat().st_size for file in folder.iterdir()) / 1e6
    splits = ", ".join(f"{split} {builder.info.splits[split].num_examples}" for split in builder.splits)
    lengths = sorted({builder.frames_of(split) for split in builder.splits})
    shape = f"{' or '.join(map(str, lengths))} frames, {config.image_size}x{config.image_size}"
    print(f"{builder.name}/{config.name}: videos of {shape}, up to {config.max_objects} objects; {splits}")
    print(f"{size:.1f} MB in {folder}")


def _variants(dataset: str) -> list[str]:
    if dataset not in DATASETS:
        raise unknown("dataset", dataset, DATASETS)
    return [config.name for config in DATASETS[dataset].BUILDER_CONFIGS]


def _parse_options(text: str) -> dict[str, Any]:
    try:
        options = json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"--options {text!r} is not JSON ({error}): give e.g. '{{\"image_size\": 32}}'") from error
    if not isinstance(options, dict):
        raise DataError(f"--options {text!r} is not a JSON object: give e.g. '{{\"image_size\": 32}}'")
    return options


if __name__ == "__main__":
    main()
