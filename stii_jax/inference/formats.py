"""Export of a decomposed video to the formats of other programs, listed in `FORMATS`.

They describe the objects in the frames of the input, without the background's slot and predicted frames. An object's
number is that of its slot plus 1, since most of these formats reserve 0 for the background. Numbered objects keep their
numbers. Positions are in pixels of the input.
"""

import abc
import csv
import json
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Bool

from stii_jax.config import ConfigError
from stii_jax.inference.outputs import FrameWriter, SegmentedFrame, VideoInfo
from stii_jax.visualization.regions import Region


class Format(FrameWriter):
    """Base class of the formats.

    Args:
        folder: the folder of the results.
        info: facts about the whole video.
    """

    name: ClassVar[str]
    """Name of the file."""

    def __init__(self, folder: Path, info: VideoInfo):
        self._path, self._info = folder / self.name, info
        self._first = 0 if info.is_numbered else 1
        """Number of slot 0."""

    @abc.abstractmethod
    def write(self, frame: SegmentedFrame) -> None:
        """Write one frame of the input."""

    def _objects(self, frame: SegmentedFrame) -> Iterator[tuple[int, Region]]:
        """Yield the objects of a frame by number, from 1."""
        for slot, region in frame.regions.items():
            if slot != self._info.background:
                yield slot + self._first, region


class Coco(Format):
    """COCO instances: masks in compressed run-length encoding, boxes, and the object's number as `track_id`.

    `images` come last in the file. It is written as a stream, while their list is collected in a temporary file.
    """

    name = "coco.json"

    def __init__(self, folder: Path, info: VideoInfo):
        super().__init__(folder, info)
        self._file, self._images = self._path.open("w"), (folder / "images.json").open("w+")
        self._num_annotations = 0
        head = {
            "info": {"description": f"objects in {info.name}, found by stii_jax"},
            "categories": [{"id": 1, "name": "object", "supercategory": "object"}],
        }
        self._file.write(json.dumps(head)[:-1] + ', "annotations": [')

    def write(self, frame: SegmentedFrame) -> None:
        """See `Format`."""
        height, width, scale = self._info.height, self._info.width, self._info.scale
        image = {"id": frame.number, "file_name": f"{frame.number:06}.png", "width": width, "height": height}
        self._append(self._images, image | {"time": round(frame.seconds, 6)}, first=frame.number == 0)
        slots = frame.slots.repeat(scale, axis=0).repeat(scale, axis=1)[:height, :width]
        for number, region in self._objects(frame):
            mask = slots == number - self._first
            box = [region.left, region.top, region.right - region.left, region.bottom - region.top]
            annotation = {
                "id": self._num_annotations + 1,  # pycocotools treats 0 as none
                "image_id": frame.number,
                "category_id": 1,
                "track_id": number,
                "segmentation": {"size": [height, width], "counts": run_lengths(mask)},
                "area": int(np.count_nonzero(mask)),
                "bbox": box,
                "iscrowd": 0,
                "score": round(region.confidence, 4),
            }
            self._append(self._file, annotation, first=self._num_annotations == 0)
            self._num_annotations += 1

    @staticmethod
    def _append(file: Any, item: dict[str, Any], first: bool) -> None:
        file.write("\n" if first else ",\n")
        json.dump(item, file)

    def close(self, whole: bool) -> None:
        """See `FrameWriter`."""
        with self._file, self._images:
            self._file.write('\n], "images": [')
            self._images.seek(0)
            shutil.copyfileobj(self._images, self._file)
            self._file.write("\n]}\n")
        Path(self._images.name).unlink()


class Mot(Format):
    """MOTChallenge text: frame, object, left, top, width, height, confidence, and three times -1 (no 3-D position).

    Frames count from 1, and so do the pixels of left and top, as in MOTChallenge's ground truth.
    """

    name = "mot.txt"

    def __init__(self, folder: Path, info: VideoInfo):
        super().__init__(folder, info)
        self._file = self._path.open("w", newline="")
        self._table = csv.writer(self._file, lineterminator="\n")

    def write(self, frame: SegmentedFrame) -> None:
        """See `Format`."""
        for number, region in self._objects(frame):
            box = [region.left + 1, region.top + 1, region.right - region.left, region.bottom - region.top]
            confidence = round(region.confidence, 4)
            self._table.writerow([frame.number + 1, number, *(round(v, 3) for v in box), confidence, -1, -1, -1])

    def close(self, whole: bool) -> None:
        """See `FrameWriter`."""
        self._file.close()


class LabelStack(Format):
    """A TIFF stack for ImageJ and napari: one page per frame, object numbers as labels, 0 for everything else."""

    name = "labels.tif"

    def __init__(self, folder: Path, info: VideoInfo):
        super().__init__(folder, info)
        import tifffile

        pixels = info.width * info.height // info.scale**2
        # Plain ImageJ reads only classic TIFF, which ends at 4 GB. Compressed labels stay far below their raw size.
        big = info.expected is None or info.expected * pixels > 2**32
        self._file = tifffile.TiffWriter(self._path, bigtiff=big)
        self._labels = np.zeros(256, np.uint8)
        self._labels[: len(info.colors)] = np.arange(len(info.colors)) + self._first
        self._labels[info.background] = 0
        self._num_frames = 0

    def write(self, frame: SegmentedFrame) -> None:
        """See `Format`."""
        page = self._labels[frame.slots]
        head = self._description() if self._num_frames == 0 else None
        self._file.write(page, photometric="minisblack", compression="zlib", metadata=None, description=head)
        self._num_frames += 1

    def close(self, whole: bool) -> None:
        """See `FrameWriter`."""
        import tifffile

        self._file.close()
        if whole:  # the number of frames is known by now
            tifffile.tiffcomment(self._path, self._description())

    def _description(self) -> str:
        """The first page's comment, which tells ImageJ that the pages are frames."""
        count = f"{self._num_frames:09}"  # padded to a constant length
        facts = {"ImageJ": "1.11a", "images": count, "frames": count, "hyperstack": "true", "mode": "grayscale"}
        facts |= {"loop": "false", "finterval": f"{1 / self._info.fps:.9f}", "unit": "pixel"}
        facts |= {"min": "0.0", "max": f"{len(self._info.colors)}.0"}
        return "".join(f"{key}={value}\n" for key, value in facts.items())


class ViaTracks(Format):
    """Boxes of the objects as VIA-tracks CSV, for `movement.io.load_bboxes.from_via_tracks_file`."""

    name = "via_tracks.csv"

    def __init__(self, folder: Path, info: VideoInfo):
        super().__init__(folder, info)
        self._file = self._path.open("w", newline="")
        self._table = csv.writer(self._file, lineterminator="\n")
        attributes = ("region_count", "region_id", "region_shape_attributes", "region_attributes")
        self._table.writerow(("filename", "file_size", "file_attributes", *attributes))

    def write(self, frame: SegmentedFrame) -> None:
        """See `Format`."""
        objects = list(self._objects(frame))
        of_frame = {"clip": self._info.name, "frame": frame.number, "time": round(frame.seconds, 6)}
        for place, (number, region) in enumerate(objects):
            box = {"x": region.left, "y": region.top}
            box |= {"width": region.right - region.left, "height": region.bottom - region.top}
            shape = {"name": "rect"} | {key: round(value, 3) for key, value in box.items()}
            track = {"track": number, "confidence": round(region.confidence, 4)}
            cells = (json.dumps(of_frame), len(objects), place, json.dumps(shape), json.dumps(track))
            self._table.writerow((f"{frame.number:06}.png", 0, *cells))

    def close(self, whole: bool) -> None:
        """See `FrameWriter`."""
        self._file.close()


FORMATS: dict[str, type[Format]] = {"coco": Coco, "mot": Mot, "tiff": LabelStack, "movement": ViaTracks}
"""The formats, by their names in `--formats`."""


def check_formats(names: Iterable[str]) -> None:
    """Raise `ConfigError` unless all names are known."""
    if unknown := [name for name in names if name not in FORMATS]:
        raise ConfigError(f"unknown --formats {unknown[0]!r}: give some of {', '.join(FORMATS)}, separated by commas")


def run_lengths(mask: Bool[np.ndarray, "H W"]) -> str:
    """Encode a mask in COCO's compressed run-length encoding.

    Runs of equal pixels go down the columns, and the first is outside the mask. Each length is written as the
    difference from the last but one, five bits per character.
    """
    flat = mask.T.ravel()
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    counts = np.diff([0, *[0] * int(flat[0]), *changes, flat.size]).tolist()
    text = []
    for place, count in enumerate(counts):
        value = count - counts[place - 2] if place > 2 else count
        more = True
        while more:
            bits, value = value & 31, value >> 5
            more = value != (-1 if bits & 16 else 0)
            text.append(chr(48 + bits + 32 * more))
    return "".join(text)
