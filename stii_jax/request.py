"""A request to decompose a video, as the command line gives it. Imports nothing heavy."""

from pathlib import Path
from typing import NamedTuple

from stii_jax.config import ConfigError


class Request(NamedTuple):
    """The video to decompose, and the folder of the results."""

    input: Path
    """A video file, or a folder of images."""
    output: Path
    """The folder of the results."""
    num_predicted: int = 0
    """Frames to imagine after the last one."""


def make_request(mode: str, source: str | None, output: str | None, num_predicted: int | None) -> Request | None:
    """The request that `--input`, `--output` and `--predict` make; None in the modes that decompose nothing.

    Raises:
        ConfigError: one is missing, or does nothing in this mode, or makes no sense.
    """
    if mode == "export" and not output:
        raise ConfigError("give --output, the file to write: --mode export --workdir RUN --output model.safetensors")
    if mode != "decompose":
        values = {"--input": source, "--output": None if mode == "export" else output, "--predict": num_predicted}
        if given := [name for name, value in values.items() if value is not None]:
            raise ConfigError(f"{', '.join(given)} would do nothing: give --mode decompose, or leave it out")
        return None
    if not source or not output:
        missing = "--output, the folder of the results" if source else "--input, a video file"
        raise ConfigError(f"give {missing}: --mode decompose --model quickstart --input video.mp4 --output FOLDER")
    if num_predicted is not None and num_predicted < 0:
        raise ConfigError(f"--predict is {num_predicted}, expected 0 or more frames")
    return Request(Path(source), Path(output), num_predicted or 0)
