"""The command line of the comparison; see the package."""

import argparse
import importlib.util
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stii_jax.comparison.table import tables
from stii_jax.config import split_overrides
from stii_jax.devices.machine import cpu_name, num_cores
from stii_jax.errors import UserError, check_platform
from stii_jax.inference.track_request import TrackRequest, make_track_request
from stii_jax.storage.files import write_atomic, write_results

ERRORS = (UserError, OSError)
"""Errors that are shown as one line, without a traceback."""
CLASSICAL = ("mog2", "threshold")
TUNE_FRAMES = 100
_VIEWING = ("background", "region", "tile", "separate", "frame_stride")
"""The flags of `--mode decompose` that apply only to models."""
_NEEDED = {"cv2": "opencv-python>=4.11", "trackpy": "trackpy>=0.7", "trackeval": "trackeval>=1.3"}


class ComparisonError(UserError, ValueError):
    """A flag is wrong, or a package is missing. The message is one line."""


def main(arguments: Sequence[str]) -> None:
    """Run the command line."""
    try:
        check_platform()
        overrides, rest = split_overrides(arguments)
        options = _parse(rest)
        needed = [name for name in _NEEDED if options.classical or name == "trackeval"]
        if missing := [_NEEDED[name] for name in needed if importlib.util.find_spec(name) is None]:
            raise ComparisonError(f"the comparison needs more packages: pip install {' '.join(map(repr, missing))}")
        viewing = {name: getattr(options, name) for name in _VIEWING}
        request = make_track_request(
            "evaluate", options.tracks, options.track_options.split(","), options.input, viewing
        )
        assert request is not None  # --tracks is required
        results = compare(request, options.classical, options.model, overrides, options.tune_frames)
        options.output.parent.mkdir(parents=True, exist_ok=True)
        write_results(options.output, results)
        table = tables(results)
        write_atomic(options.output.with_suffix(".md"), f"{table}\n".encode())
        print(f"\n{table}\n\nscores: {options.output}")
    except ERRORS as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("stopped")


def compare(
    request: TrackRequest,
    classical: Sequence[str],
    models: Sequence[str],
    overrides: Sequence[str] = (),
    tune_frames: int = TUNE_FRAMES,
) -> dict[str, Any]:
    """Score classical trackers and models on one recording.

    Args:
        request: the recording and its tracks.
        classical: keys of `classical.METHODS`.
        models: trained models, as `load_model` takes them.
        overrides: settings of the models in the section `eval`, as `key=value`.
        tune_frames: number of first frames used to tune the classical trackers.

    Returns:
        `input`, `tracks`, `machine`, `commit` of this package (None outside a checkout), and `rows`, one per method.
    """
    from stii_jax.data.video.footage import open_footage
    from stii_jax.inference.track_scores import Recorded
    from stii_jax.runs.provenance import provenance

    footage = open_footage(request.input, request.viewing.value_range)
    height, width = next(footage.frames()).pixels.shape[:2]
    recorded = Recorded(width, height, footage.count())
    rows: list[Mapping[str, Any]] = []
    if classical:
        from stii_jax.comparison.classical import run

        rows += [run(name, request, recorded, tune_frames) for name in classical]
    rows += [_score(model, request, overrides) for model in models]
    machine = f"{cpu_name()}, {num_cores()} cores"
    names = {"input": request.input.name, "tracks": request.tracks.path.name}
    return {**names, "machine": machine, "commit": provenance()["commit"], "rows": rows}


def _score(model: str, request: TrackRequest, overrides: Sequence[str]) -> dict[str, Any]:
    """Score a trained model. The seconds include loading, compiling and scoring."""
    from stii_jax.inference.track_scores import score_model
    from stii_jax.runs.loading import load_model

    started = time.monotonic()
    loaded = load_model(model, overrides)
    scores, _ = score_model(loaded, request)
    seconds = round(time.monotonic() - started, 3)
    viewing = {name: value for name, value in request.viewing._asdict().items() if value is not None}
    settings = {"num_slots": loaded.num_slots, "overrides": list(overrides), **viewing}
    return {"method": f"stii_jax, {Path(model).stem}", "settings": settings, **scores, "seconds": seconds}


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m stii_jax.comparison",
        description="Compare trained models with classical trackers on a recording with true tracks.",
    )
    parser.add_argument("--input", required=True, help="the recording: a video file, or a folder of images")
    parser.add_argument("--tracks", required=True, help="CSV file of the true tracks, as for --mode evaluate")
    parser.add_argument("--track_options", default="", help="options for reading the tracks, as for --mode evaluate")
    parser.add_argument("--model", nargs="+", default=[], help="trained models; settings: --config.eval.x=value")
    parser.add_argument(
        "--background",
        help="median: models see frames without a static camera's background; bright: models see the negative; auto: "
        "one of these or neither, by the recording",
    )
    parser.add_argument("--region", type=lambda text: text.split(","), help="X,Y,WIDTH,HEIGHT: models see this part")
    parser.add_argument("--tile", type=int, help="side in pixels of the tiles that models see")
    parser.add_argument(
        "--separate",
        action=argparse.BooleanOptionalAction,
        help="separate pieces of a slot are separate objects; default: with --tile and --background=median",
    )
    parser.add_argument("--frame_stride", type=int, help="N: models see every N-th frame")
    parser.add_argument("--classical", nargs="*", choices=CLASSICAL, default=list(CLASSICAL), help="default: all")
    parser.add_argument("--tune_frames", type=int, default=TUNE_FRAMES, help="number of first frames used for tuning")
    parser.add_argument("--output", required=True, type=Path, help="JSON file of scores; a .md file gets the tables")
    options = parser.parse_args(arguments)
    if options.output.suffix != ".json":
        parser.error(f"--output is {options.output}, expected a .json file")
    if options.tune_frames < 1:
        parser.error(f"--tune_frames is {options.tune_frames}, expected 1 or more")
    if not options.model and not options.classical:
        parser.error("nothing to compare: give --model, or omit --classical")
    return options
