"""Small recordings in the real formats: video files, and R-NEM's HDF5.

Each `make_*` fills a folder and returns the variant, the options and the folder of downloaded files.
"""

import functools
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import h5py
import numpy as np

from stii_jax.data.bouncing_balls import physics, render
from stii_jax.data.rnem_balls import GROUPS

SIZE = 64
SCALE = SIZE / 10  # pixels per unit of the box

Sample = tuple[str, dict[str, Any], str]


@functools.cache
def balls(num_videos: int, num_frames: int, num_balls: int = 4, seed: int = 0) -> np.ndarray:
    """Return label images `N T 64 64` of bouncing balls; made once per session, so do not write to them."""
    rng = np.random.default_rng(seed)
    radii = rng.choice([5.1 / 6.4, 1.0], (num_videos, num_balls))
    positions = physics.place(rng, radii, 10.0)
    velocities = physics.draw_velocities(rng, radii > 0, (0.11, 0.2))
    tracks = physics.simulate(positions, velocities, radii, box_size=10.0, num_frames=num_frames).positions
    labels = np.stack([render.render_masks(x * SCALE, r * SCALE, SIZE) for x, r in zip(tracks, radii)])
    labels.setflags(write=False)
    return labels


def colored(labels: np.ndarray) -> np.ndarray:
    """Return the balls in their colours, on grey."""
    return render.render_frames(labels, render.PALETTES["vivid"], np.full(3, 40, np.uint8))


def write_video(
    path: Path,
    frames: np.ndarray,
    codec: str = "mpeg4",
    pix_fmt: str = "yuv420p",
    times: list[int] | None = None,
    options: dict[str, str] | None = None,
) -> Path:
    """Write frames `T H W 3`, in the container given by the path's suffix. `times` are in 1/100 s."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options=options or {}) as container:
        stream = container.add_stream(codec, rate=10)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt, stream.bit_rate = pix_fmt, 4_000_000
        if times:
            stream.codec_context.time_base = Fraction(1, 100)
        for number, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            if times:
                frame.pts, frame.time_base = times[number], Fraction(1, 100)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def write_raw(path: Path, frames: np.ndarray) -> Path:
    """Write a lossless file, in AVI or MKV."""
    return (
        write_video(path, frames, "rawvideo", "bgr24")
        if path.suffix == ".avi"
        else write_video(path, frames, "ffv1", "bgr0")
    )


def write_rnem(path: Path, counts: dict[str, int], num_frames: int, num_balls: int = 4) -> Path:
    """Write R-NEM's layout: time first, balls as truth values, labels of 1 and more."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for seed, (split, count) in enumerate(counts.items()):
            labels = balls(count, num_frames, num_balls, seed).transpose(1, 0, 2, 3)[..., None]
            file[f"{GROUPS[split]}/features"] = labels > 0
            file[f"{GROUPS[split]}/groups"] = labels
            file[f"{GROUPS[split]}/collisions"] = np.zeros((num_frames, count, 1))
    return path


def make_video_folder(folder: Path) -> Sample:
    """Write videos of 16 frames with their masks, and one sequence of images."""
    for number, labels in enumerate(balls(5, 16)):
        write_video(folder / "videos" / f"balls_{number}.mp4", colored(labels))
        np.savez(folder / "videos" / f"balls_{number}.npz", segmentation=labels)
    options = {"folder": str(folder / "videos"), "image_size": 32, "num_frames": 8, "validation_fraction": 0.3}
    return "default", options, ""


def make_static_camera(folder: Path) -> Sample:
    """Write a recording of 90 frames, wider than high."""
    (labels,) = balls(1, 90)
    frames = np.pad(colored(labels), ((0, 0), (0, 0), (20, 40), (0, 0)))
    path = write_video(folder / "street.mp4", frames)
    return "default", {"file": str(path), "region": [20, 0, 64, 64], "image_size": 32, "num_frames": 8}, ""


def make_grand_central(folder: Path) -> Sample:
    """Write a recording of 60 frames of 720x480, with people of a few pixels in the region."""
    frames = np.full((60, 480, 720, 3), 90, np.uint8)
    (labels,) = balls(1, 60)
    frames[:, 200:264, 330:394] = colored(labels)
    write_video(folder / "grandcentral.avi", frames)
    return "default", {"num_frames": 6}, str(folder)


def make_rnem_balls(folder: Path) -> Sample:
    """Write a few videos of four balls."""
    write_rnem(folder / "balls4mass64.h5", {"train": 6, "validation": 3, "test": 4}, 12)
    return "color4", {"num_frames": 10}, str(folder)
