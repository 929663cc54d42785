"""What is asked of a workdir before it is used: it may be a stranger's, and then nothing outside of it is to change.

Nothing in a workdir is code. See docs/security.md for what is promised.
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
    """Stops at a link that leads out of the workdir, which itself may be one; a run writes, cuts and deletes files.

    Raises:
        ConfigError: there is such a link.
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
                f"{path} is a link to {target}, out of the run's folder: put there what it leads to, or let --workdir "
                "as a whole be a link"
            )


def check_data_dir(workdir: Path, data_dir: str, overrides: Sequence[str]) -> None:
    """Stops where a workdir's own config, not the command line, has datasets built in a folder that never held any.

    Raises:
        ConfigError: it does.
    """
    given = any(override.partition("=")[0] == "data.data_dir" for override in overrides)
    if not data_dir or given or any((resolve_data_dir(data_dir) / name).is_dir() for name in DATASETS):
        return
    raise ConfigError(
        f"{workdir}/config.json keeps datasets in {data_dir!r}, where there are none: to build them there, give "
        f"--config.data.data_dir={data_dir}, or --config.data.data_dir= for the usual folder"
    )


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a workdir's file, `provenance.json` for one; nothing where there is no such file.

    Raises:
        ConfigError: it holds none.
    """
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_text())
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is damaged ({error}): delete it") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path} is damaged (it holds no object): delete it")
    return content
