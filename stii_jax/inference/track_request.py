"""A request to score a decomposition against point tracks, from the command line. This module imports no jax."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from stii_jax.config import ConfigError
from stii_jax.data.errors import DataError
from stii_jax.data.tracks.points import PointTracks, parse_options, read_tracks
from stii_jax.evaluation.tracking_metrics import check_installed
from stii_jax.inference.viewing import Viewing, parse_viewing

SCORES = "track_scores.json"
"""Name of the file of scores in the folder of a decomposition. Elsewhere, the input's name is added."""
_EXAMPLE = "--mode evaluate --model balls --input video.mp4 --tracks tracks.csv --workdir scores"


class TrackRequest(NamedTuple):
    """The tracks to score a decomposition against, and its input."""

    tracks: PointTracks
    options: Mapping[str, str]
    """See `stii_jax.data.tracks.columns.OPTIONS`."""
    input: Path
    """The recording, or the folder of its decomposition."""
    viewing: Viewing = Viewing()
    """The frames that a model sees, and the part of them."""

    @property
    def is_decomposed(self) -> bool:
        """True if the input is the folder of a decomposition, which needs no model."""
        from stii_jax.inference.decomposed_folder import is_decomposed

        return is_decomposed(self.input)

    def scores_file(self, folder: Path) -> Path:
        """Return the file in `folder` for the scores of this recording."""
        stem, _, suffix = SCORES.partition(".")
        return folder / (SCORES if folder == self.input else f"{stem}_{self.input.stem}.{suffix}")


def make_track_request(
    mode: str,
    tracks: str | None,
    options: Sequence[str] | None,
    source: str | None,
    viewing: Mapping[str, Any] | None = None,
) -> TrackRequest | None:
    """Make a request from the flags of `--mode evaluate --tracks`, and read the tracks; None without tracks.

    `viewing` has the flags of `parse_viewing`.

    Raises:
        ConfigError: a flag is missing, has no effect in this mode, or has an invalid value.
        DataError: the file of tracks is invalid, or there is no such input.
        MissingExtraError: the library of HOTA, IDF1 and MOTA is not installed.
    """
    if tracks is None:
        if options is not None:
            raise ConfigError("--track_options would do nothing: give --tracks, the CSV file of tracks")
        if mode == "evaluate" and source:
            raise ConfigError(f"give --tracks, the CSV file of true tracks to score --input against: {_EXAMPLE}")
        return None
    if mode != "evaluate":
        raise ConfigError(f"--tracks would do nothing with --mode {mode}: give --mode evaluate, or leave it out")
    if not source:
        raise ConfigError(f"give --input, the recording or the folder of its decomposition: {_EXAMPLE}")
    check_installed()
    parsed = parse_options(options or ())
    seen = parse_viewing(viewing or {})
    if not Path(source).exists():
        raise DataError(f"{source} does not exist: give --input, the recording or the folder of its decomposition")
    return TrackRequest(read_tracks(Path(tracks), parsed), parsed, Path(source), seen)
