"""`overlay.mp4` shows the recording itself, whatever the model sees of it."""

import av
import jax
import numpy as np
import pytest
from sample_recordings import write_raw
from toy import ToyModel

from stii_jax.data.video.view import View
from stii_jax.inference.decompose import decompose
from stii_jax.inference.model import Model
from stii_jax.inference.request import Request

pytestmark = pytest.mark.usefixtures("quick_compiles")


def test_the_recording_in_its_own_size(tmp_path):
    """The model sees 8x8 pixels of every second frame. An odd side grows by one pixel."""
    network = ToyModel(8)
    model = Model(network=network, params=network.init(jax.random.key(0)), view=View(size=8), frame_stride=2)
    blocks = np.random.default_rng(0).integers(0, 256, (6, 9, 16, 3), dtype=np.uint8)
    frames = blocks.repeat(33, axis=1).repeat(33, axis=2)[:, :, :-1]
    video = write_raw(tmp_path / "video.mkv", frames)
    found = decompose(model, Request(video, tmp_path / "found", num_predicted=1), {}, {})
    assert (found["num_frames"], found["num_predicted"]) == (3, 1)
    with av.open(str(tmp_path / "found" / "overlay.mp4")) as container:
        shown = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert [frame.shape for frame in shown] == [(298, 528, 3)] * 4
    for frame, seen in zip(shown, frames[::2]):
        difference = np.abs(frame[:297, :527].astype(int) - seen).max(axis=-1)
        assert np.median(difference) < 12, "most of it has nothing drawn over it"
