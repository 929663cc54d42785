"""CLEVRER's files, generated in their real format: coloured shapes that slide over a grey table, each in its lane."""

import functools
import io
import itertools
import json
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np

FRAMES, HEIGHT, WIDTH = 128, 320, 480
RADIUS = 20
COLORS = {
    "red": (190, 40, 40),
    "green": (40, 170, 60),
    "blue": (50, 70, 200),
    "cyan": (40, 190, 190),
    "yellow": (210, 200, 50),
    "purple": (140, 50, 170),
}
SHAPES = ("cube", "cylinder", "sphere")


class Movie(NamedTuple):
    """The content of a scene; object k has the k-th colour."""

    number: int
    middles: np.ndarray
    """`T N 2`, down and to the right, in pixels."""

    @property
    def num_objects(self) -> int:
        return self.middles.shape[1]

    def attributes(self, index: int) -> dict[str, str]:
        material = ("rubber", "metal")[(self.number + index) % 2]
        return {"color": list(COLORS)[index], "material": material, "shape": SHAPES[index % 3]}

    def visible(self) -> np.ndarray:
        """Return `T N`, true if an object is entirely in view."""
        across = self.middles[..., 1]
        return (across > RADIUS) & (across < WIDTH - RADIUS)

    def masks(self, time: int) -> np.ndarray:
        """Return the masks `N H W`; lanes do not overlap."""
        masks = np.zeros((self.num_objects, HEIGHT, WIDTH), bool)
        for index, mask in enumerate(masks):
            window, outline = self.place(time, index)
            mask[window] = outline
        return masks

    def place(self, time: int, index: int) -> tuple[tuple[slice, slice], np.ndarray]:
        """Return the part of the frame that an object covers, and its pixels there."""
        top, left = (self.middles[time, index] - RADIUS).astype(int)
        first, last = max(0, left), min(max(0, left + 2 * RADIUS + 1), WIDTH)
        columns = slice(first - left, max(first, last) - left)
        return (slice(top, top + 2 * RADIUS + 1), slice(first, last)), _stamp(index)[:, columns]


@functools.cache
def _stamp(index: int) -> np.ndarray:
    """Return an object's outline: a square for a cube, else a disc."""
    y, x = np.mgrid[-RADIUS : RADIUS + 1, -RADIUS : RADIUS + 1]
    return (np.hypot(y, x) <= RADIUS) | (index % len(SHAPES) == 0)


def make_movie(number: int, num_objects: int, enters: int = 0, leaves: int = FRAMES) -> Movie:
    """Make objects in random places; the first is in view from frame `enters` up to, not including, `leaves`."""
    rng = np.random.default_rng(number)
    lanes = (np.arange(num_objects) + 0.5) * HEIGHT / num_objects
    starts, speeds = rng.uniform(100, 250, num_objects), rng.uniform(0.2, 0.9, num_objects)
    across = starts + speeds * np.arange(FRAMES)[:, None]
    across[:enters, 0] = -100
    across[leaves:, 0] = WIDTH + 100
    return Movie(number, np.stack(np.broadcast_arrays(lanes, across), -1).round())


def draw(movie: Movie, *, masks: bool = False) -> Iterator[np.ndarray]:
    """Draw the frames, or those of a mask video, which are black where there is no object."""
    table = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    if not masks:
        table += np.linspace(90, 160, HEIGHT).astype(np.uint8)[:, None, None]
        table[:, ::40] -= np.uint8(movie.number % 7 * 5)
    for time in range(FRAMES):
        frame = table.copy()
        for index, color in zip(range(movie.num_objects), COLORS.values()):
            window, outline = movie.place(time, index)
            frame[window][outline] = color
        yield frame


def encode_video(frames: Iterable[np.ndarray]) -> bytes:
    """Encode an mp4 file like CLEVRER's: H.264 with subsampled colour."""
    file, frames = io.BytesIO(), iter(frames)
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", 25, options={"preset": "ultrafast", "crf": "20"})
        first = next(frames)
        stream.height, stream.width, stream.pix_fmt = *first.shape[:2], "yuv420p"
        for frame in itertools.chain([first], frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return file.getvalue()


def encode_rle(mask: np.ndarray) -> str:
    """Return COCO's compressed code of a mask."""
    columns = np.concatenate([[False], mask.T.ravel(), [False]])
    ends = np.flatnonzero(columns[1:-1] != columns[:-2])
    runs = np.diff(np.concatenate([[0], ends, [mask.size]])).tolist()
    numbers = [run - runs[i - 2] if i > 2 else run for i, run in enumerate(runs)]
    return "".join(map(encode_number, numbers))


def encode_number(number: int) -> str:
    text = ""
    while True:
        digit = number & 31
        number >>= 5
        more = number != (-1 if digit & 16 else 0)
        text += chr(48 + digit + 32 * more)
        if not more:
            return text


def annotation(movie: Movie) -> dict[str, Any]:
    """Return the content of annotation_NNNNN.json."""
    visible = movie.visible()

    def state(time: int, index: int) -> dict[str, Any]:
        place = [*(movie.middles[time, index] / 100).round(4).tolist(), 0.2]
        still = {key: [0.0, -0.0, 0.0] for key in ("orientation", "velocity", "angular_velocity")}
        inside = bool(visible[time, index])
        return {"object_id": index, "location": place, **still, "inside_camera_view": inside}

    objects = range(movie.num_objects)
    return {
        "scene_index": movie.number,
        "video_filename": f"video_{movie.number:05d}.mp4",
        "object_property": [{"object_id": index, **movie.attributes(index)} for index in objects],
        "motion_trajectory": [
            {"frame_id": time, "objects": [state(time, index) for index in objects]} for time in range(FRAMES)
        ],
        "collision": [{"object_ids": [0, 1], "frame_id": 19, "location": [0.1, -1.5, 0.2]}],
    }


def proposals(movie: Movie) -> dict[str, Any]:
    """Return the content of proposal_NNNNN.json from a perfect detector; objects are ordered by colour."""

    def detection(time: int, index: int, mask: np.ndarray) -> dict[str, Any]:
        code = {"size": [HEIGHT, WIDTH], "counts": encode_rle(mask)}
        where = {"video_index": movie.number, "frame_index": time}
        return {"mask": code, **where, **movie.attributes(index), "score": 0.9995}

    frames = []
    for time in range(FRAMES):
        seen = [detection(time, i, mask) for i, mask in enumerate(movie.masks(time)) if mask.any()]
        frames.append({"frame_index": time, "objects": sorted(seen, key=lambda one: one["color"])})
    return {"video_index": movie.number, "frames": frames, "video_filename": f"video_{movie.number:05d}.mp4"}


def names(number: int) -> dict[str, str]:
    """Return the paths of a video's files in CLEVRER's own tree."""
    part = "train" if number < 10_000 else "validation"
    thousand = f"{number // 1000 * 1000:05d}-{number // 1000 * 1000 + 1000:05d}"
    return {
        "video": f"video_{part}/video_{thousand}/video_{number:05d}.mp4",
        "annotation": f"annotation_{part}/annotation_{thousand}/annotation_{number:05d}.json",
        "proposal": f"derender_proposals/proposal_{number:05d}.json",
        "mask": f"mask_{part}/mask_{thousand}/mask_{number:05d}.mp4",
    }


@functools.cache
def contents(number: int, num_objects: int, enters: int = 0, leaves: int = FRAMES) -> dict[str, bytes]:
    """Return the files of a video, by kind; made once per session."""
    movie = make_movie(number, num_objects, enters, leaves)
    files = {"video": encode_video(draw(movie)), "annotation": json.dumps(annotation(movie)).encode()}
    if number >= 9_500:
        files["proposal"] = json.dumps(proposals(movie)).encode()
    return files


def write(folder: Path, files: dict[str, bytes]) -> None:
    """Write files by their path in the folder."""
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def write_zips(folder: Path, files: dict[str, bytes]) -> None:
    """Write files by their path into archives named after their first folder, as on CLEVRER's site."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        root, _, member = name.partition("/")
        with zipfile.ZipFile(folder / f"{root}.zip", "a") as archive:
            archive.writestr(member, data)


SCENES = {0: (4,), 1: (6,), 9_500: (3,), 10_000: (5, 4, 60), 10_001: (6, 2), 10_002: (4, 0, 20), 10_003: (2,)}
"""Videos of the small dataset: number -> number of objects, and the first object's entry and exit."""

OPTIONS = {
    "image_size": 32,
    "num_frames": 64,
    "test_frames": 40,
    "train_videos": (0, 2),
    "validation_videos": (9_500, 9_501),
    "test_videos": (10_000, 10_004),
}


def tree() -> dict[str, bytes]:
    """Return the small dataset's files, by their path in CLEVRER's own tree."""
    return {
        names(number)[kind]: data for number, scene in SCENES.items() for kind, data in contents(number, *scene).items()
    }


def make_clevrer(folder: Path) -> tuple[str, dict[str, Any], str]:
    """Write the small dataset to a folder; return its variant, options and `manual_dir`. Each split has videos."""
    write(folder, tree())
    return "default", dict(OPTIONS), str(folder)
