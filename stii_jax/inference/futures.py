"""Sampled futures of a decomposed recording: a table of their objects, and a picture of their paths."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from tqdm import tqdm

from stii_jax.inference.outputs import FUTURE_COLUMNS, FUTURES, FUTURES_PICTURE, VideoInfo, table_cells
from stii_jax.inference.stream import FrameResult, FrameStream
from stii_jax.storage.files import write_atomic
from stii_jax.storage.images import encode_png
from stii_jax.visualization.overlay import OverlayPainter
from stii_jax.visualization.regions import Box, Region


class FutureFiles:
    """The table `futures.csv` and the picture `futures.png`.

    The table has one row per future, frame and label. The picture shows the last observed frame with the paths that
    every object takes in the futures. A thin white line marks its predicted path.

    Args:
        folder: the output folder.
        info: facts about the decomposition.
        box: the part of the frame that the model sees.
    """

    def __init__(self, folder: Path, info: VideoInfo, box: Box):
        self._folder, self._info, self._box = folder, info, box
        self._last: FrameResult | None = None
        self._predicted: list[Mapping[int, Region]] = []

    def see(self, result: FrameResult) -> None:
        """Take the next frame, observed or predicted, of the decomposition itself."""
        if result.predicted:
            self._predicted.append(result.regions)
        else:
            self._last = result

    def write(self, streams: Sequence[FrameStream], num_frames: int, num_labels: int) -> int:
        """Sample the futures of `FrameStream.futures`, write both files, and return the number of futures.

        Labels from `num_labels` on, objects that only a future has, are left out. The futures end before the first one
        that is not finite, whose `damage` says so.
        """
        futures = list[list[Mapping[int, Region]]]()
        with (self._folder / FUTURES).open("w", newline="") as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow(FUTURE_COLUMNS)
            for number, stream in enumerate(tqdm(streams, desc="sampling", unit="future", mininterval=0.5)):
                rows, future = list[list[object]](), list[Mapping[int, Region]]()
                for frame in stream.predict(num_frames):
                    cells = table_cells(frame.segmented, num_labels, self._info.background)
                    rows += [[number, *row] for row in cells]
                    future.append({label: region for label, region in frame.regions.items() if label < num_labels})
                if len(future) < num_frames:
                    break
                table.writerows(rows)
                futures.append(future)
        info, last = self._info, self._last
        assert last is not None and last.pixels is not None  # a decomposition has a frame
        painter = OverlayPainter(info.width, info.height, info.scale, self._box, info.colors, info.background)
        picture = painter.draw_futures(last.pixels, last.mask, last.regions, self._predicted, futures)
        write_atomic(self._folder / FUTURES_PICTURE, encode_png(picture))
        return len(futures)
