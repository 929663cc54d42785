"""A decomposition without a model: five frames of two squares, the last one predicted."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 40, 30
TABLE = """\
frame,time,object,visible,centroid_x,centroid_y,area,left,top,right,bottom,confidence,background,predicted
0,0.0,0,1,20.0,15.0,1100.0,0.0,0.0,40.0,30.0,0.9,1,0
0,0.0,1,1,8.0,8.0,36.0,5.0,5.0,11.0,11.0,0.8,0,0
0,0.0,2,1,28.0,20.0,64.0,24.0,16.0,32.0,24.0,0.6,0,0
1,0.1,0,1,20.0,15.0,1100.0,0.0,0.0,40.0,30.0,0.9,1,0
1,0.1,1,1,11.0,12.0,36.0,8.0,9.0,14.0,15.0,0.8,0,0
1,0.1,2,1,28.0,20.0,64.0,24.0,16.0,32.0,24.0,0.6,0,0
2,0.2,0,1,20.0,15.0,1164.0,0.0,0.0,40.0,30.0,0.9,1,0
2,0.2,1,1,14.0,16.0,36.0,11.0,13.0,17.0,19.0,0.8,0,0
2,0.2,2,0,,,0,,,,,,0,0
3,0.4,0,1,20.0,15.0,1100.0,0.0,0.0,40.0,30.0,0.9,1,0
3,0.4,1,1,20.0,24.0,36.0,17.0,21.0,23.0,27.0,0.8,0,0
3,0.4,2,1,28.0,10.0,64.0,24.0,6.0,32.0,14.0,0.6,0,0
4,0.5,0,1,20.0,15.0,1100.0,0.0,0.0,40.0,30.0,0.9,1,1
4,0.5,1,1,23.0,24.0,36.0,20.0,21.0,26.0,27.0,0.8,0,1
4,0.5,2,1,28.0,10.0,64.0,24.0,6.0,32.0,14.0,0.6,0,1
"""
FUTURES = """\
future,frame,time,object,visible,centroid_x,centroid_y,area,left,top,right,bottom,confidence,background,predicted
0,4,0.5,0,1,20.0,15.0,1100.0,0.0,0.0,40.0,30.0,0.9,1,1
0,4,0.5,1,1,30.0,24.0,36.0,27.0,21.0,33.0,27.0,0.8,0,1
0,4,0.5,2,1,28.0,4.04,64.0,24.0,0.0,32.0,8.0,0.6,0,1
1,4,0.5,0,1,20.0,15.0,1100.0,0.0,0.0,40.0,30.0,0.9,1,1
1,4,0.5,1,1,12.0,24.0,36.0,9.0,21.0,15.0,27.0,0.8,0,1
1,4,0.5,2,0,,,0,,,,,,0,1
"""
"""Two futures of the predicted frame, for `num_futures=2`."""
SUMMARY: dict[str, Any] = {
    **{"input_size": [WIDTH, HEIGHT], "view_box": [0, 0, WIDTH, HEIGHT], "frame_stride": 1, "fps": 10.0, "size": 8},
    **{"num_frames": 4, "num_predicted": 1, "num_slots": 3, "background_slot": 0, "mask_scale": 1, "value_range": None},
    **{"notes": [], "damage": None, "model": "toy", "dataset": "toys", "step": 5},
}


def labels_of(table: str = TABLE) -> np.ndarray:
    """Return the slot of every pixel, T H W, from the boxes of a table."""
    rows = list(csv.DictReader(io.StringIO(table)))
    labels = np.zeros((int(rows[-1]["frame"]) + 1, HEIGHT, WIDTH), np.uint8)
    for row in rows:
        if row["visible"] == "1" and row["background"] == "0":
            left, top, right, bottom = (int(float(row[side])) for side in ("left", "top", "right", "bottom"))
            labels[int(row["frame"]), top:bottom, left:right] = int(row["object"])
    return labels


def frames_of(table: str = TABLE) -> np.ndarray:
    """Draw the recording, T H W 3: squares of different brightness on a background that differs between frames."""
    labels = labels_of(table)[..., None]
    shades = np.arange(len(labels))[:, None, None, None] * 10
    return np.broadcast_to(np.where(labels == 0, 20 + shades, 100 * labels), (*labels.shape[:3], 3)).astype(np.uint8)


def write_found(folder: Path, table: str = TABLE, name: str = "video", **changes: Any) -> Path:
    """Write a decomposition to `folder`, and its recording beside it; return the folder."""
    summary = {**SUMMARY, "input": str(folder.parent / name), **changes}
    (folder / "masks").mkdir(parents=True)
    Path(summary["input"]).mkdir()
    for number, labels in enumerate(labels_of(table)):
        Image.fromarray(labels).save(folder / "masks" / f"{number:06}.png")
    for number, frame in enumerate(frames_of(table)[: summary["num_frames"] * summary["frame_stride"]]):
        Image.fromarray(frame).save(Path(summary["input"]) / f"{number}.png")
    (folder / "trajectories.csv").write_text(table)
    if "num_futures" in summary:
        (folder / "futures.csv").write_text(FUTURES)
    (folder / "decomposition.json").write_text(json.dumps(summary))
    return folder
