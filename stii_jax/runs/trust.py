"""Safety checks of a workdir before it is used. It may come from a stranger and must not change files elsewhere.

Nothing in a workdir is executed as code. See docs/security.md for the guarantees.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stii_jax.config import ConfigError
from stii_jax.data import DATASETS
from stii_jax.data.folders import resolve_data_dir
from stii_jax.storage.files import RUN_FOLDERS


def check_links(workdir: Path) -> None:
    """Check that no link leads out of the workdir, because a run writes, truncates and deletes files there.

    The workdir itself may be a link.

    Raises:
        ConfigError: a link leads out of the workdir.
    """
    root = os.path.realpath(workdir)
    beside = os.listdir(root) if os.path.isdir(root) else []
    paths = [os.path.join(root, name) for name in beside]
    for folder in RUN_FOLDERS:
        for place, folders, files in os.walk(os.path.join(root, folder)):
            paths += [os.path.join(place, name) for name in (*folders, *files)]
    for path in filter(os.path.islink, paths):
        target = os.path.realpath(path)
        if os.path.commonpath([root, target]) != root:
            raise ConfigError(
                f"{path} is a link to {target}, outside of the run's folder: replace it by a copy of its target, or "
                "make --workdir as a whole a link"
            )


def check_data_dir(workdir: Path, data_dir: str, overrides: Sequence[str]) -> None:
    """Check that a workdir's config does not have datasets built in a folder that never held any.

    Raises:
        ConfigError: it does, and the command line does not name the folder.
    """
    given = any(override.partition("=")[0] == "data.data_dir" for override in overrides)
    if not data_dir or given or any((resolve_data_dir(data_dir) / name).is_dir() for name in DATASETS):
        return
    raise ConfigError(
        f"{workdir}/config.json keeps datasets in {data_dir!r}, which holds none: to build them there, give "
        f"--config.data.data_dir={data_dir}, or --config.data.data_dir= for the usual folder"
    )


def read_object(path: Path) -> dict[str, Any]:
    """Read the JSON object in a workdir's file, such as `provenance.json`; empty if the file is missing.

    Raises:
        ConfigError: the file is damaged.
    """
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_text())
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is damaged ({error}): delete it") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path} is damaged (it holds no JSON object): delete it")
    return content
