"""A request to decompose a video, from the command line. This module imports nothing heavy."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from stii_jax.config import ConfigError
from stii_jax.inference.viewing import Viewing, parse_viewing


class Request(NamedTuple):
    """The video to decompose, the folder of the results, and the files to write there."""

    input: Path
    """A video file, or a folder of images."""
    output: Path
    """The folder of the results."""
    num_predicted: int = 0
    """Number of frames to predict after the last one."""
    formats: tuple[str, ...] = ()
    """Formats of other programs, by their names in `formats.FORMATS`."""
    object_clips: bool = False
    """True to write a clip of every object."""
    overwrite: bool = False
    """True to replace the files that an earlier decomposition wrote to the output folder."""
    viewing: Viewing = Viewing()
    """The frames that the model sees, and the part of them."""
    num_futures: int = 0
    """Number of possible futures to sample for the predicted frames."""


def make_request(
    mode: str,
    source: str | None,
    output: str | None,
    num_predicted: int | None,
    formats: Sequence[str] | None = None,
    *,
    object_clips: bool = False,
    overwrite: bool = False,
    viewing: Mapping[str, Any] | None = None,
    num_futures: int | None = None,
) -> Request | None:
    """Make a request from the flags of `--mode decompose`; None in other modes.

    `viewing` has the flags of `parse_viewing`.

    Raises:
        ConfigError: a flag is missing, has no effect in this mode, or has an invalid value.
    """
    writes_model = mode in ("export", "learn_motion")
    if writes_model and not output:
        raise ConfigError(f"give --output, the file to write: --mode {mode} --workdir RUN --output model.safetensors")
    if mode != "decompose":
        values: dict[str, object] = {
            "--input": source,
            "--output": None if mode in ("export", "learn_motion") else output,
        }
        values |= {
            "--predict": num_predicted,
            "--futures": num_futures,
            "--formats": formats,
            "--object_clips": object_clips or None,
            "--overwrite": overwrite or None,
        }
        values |= {f"--{name}": value for name, value in (viewing or {}).items()}
        if given := [name for name, value in values.items() if value is not None]:
            raise ConfigError(f"{', '.join(given)} would do nothing: give --mode decompose, or leave it out")
        return None
    if not source or not output:
        missing = "--output, the folder of the results" if source else "--input, a video file"
        raise ConfigError(f"give {missing}: --mode decompose --model quickstart --input video.mp4 --output FOLDER")
    if num_predicted is not None and num_predicted < 0:
        raise ConfigError(f"--predict is {num_predicted}, expected 0 or more frames")
    if num_futures is not None and num_futures < 1:
        raise ConfigError(f"--futures is {num_futures}, expected 1 or more futures; leave it out for none")
    wanted = tuple(dict.fromkeys(name.strip() for name in formats or () if name.strip()))
    seen = parse_viewing(viewing or {})
    if seen.tile is not None and num_predicted:
        raise ConfigError("--predict does not work with --tile: leave out one of them")
    if seen.tile is not None and num_futures:
        raise ConfigError("--futures does not work with --tile: leave out one of them")
    if num_futures and not num_predicted:
        raise ConfigError("--futures needs the number of frames to predict: add --predict 10, or leave out --futures")
    of_video = Path(source), Path(output), num_predicted or 0, wanted
    return Request(*of_video, object_clips, overwrite, seen, num_futures or 0)
