"""Logs that read as if a run had never stopped, and files that are never half-written."""

import io
import json
import math
import os
import struct

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from tensorboardX.proto.event_pb2 import Event

from stii_jax.storage import metric_log
from stii_jax.storage.files import write_atomic, write_results
from stii_jax.storage.images import encode_gif
from stii_jax.storage.metric_log import MetricWriter, read_metrics


def events(workdir):
    """Return the events of all TensorBoard files in writing order: length, checksum, event, checksum."""
    found = []
    for path in sorted((workdir / "tensorboard").iterdir(), key=lambda path: path.stat().st_mtime_ns):
        data, start = path.read_bytes(), 0
        while start < len(data):
            (length,) = struct.unpack_from("<Q", data, start)
            found.append(Event.FromString(data[start + 12 : start + 12 + length]))
            start += length + 16
    return found


def steps(workdir):
    return [line["step"] for line in read_metrics(workdir / "metrics.jsonl")]


def run(workdir, first, last):
    writer = MetricWriter(workdir)
    for step in range(first, last + 1):
        writer.write_scalars(step, {"loss": float(step)})
    writer.close()


def pictures(number):
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (8, 12, 3), dtype=np.uint8) for _ in range(number)]


def test_scalars_of_every_kind(tmp_path):
    writer = MetricWriter(tmp_path)
    writer.write_scalars(3, {"loss": jnp.float32(1.5), "ari": np.float64(0.25), "count": 7})
    writer.close()
    (line,) = read_metrics(tmp_path / "metrics.jsonl")
    assert {**line, "time": 0} == {"step": 3, "time": 0, "loss": 1.5, "ari": 0.25, "count": 7}
    logged = [(event.step, value.tag) for event in events(tmp_path) for value in event.summary.value]
    assert logged == [(3, "loss"), (3, "ari"), (3, "count")]


def test_a_line_is_on_disk_at_once(tmp_path):
    writer = MetricWriter(tmp_path)
    writer.write_scalars(1, {"loss": 1.0})
    assert steps(tmp_path) == [1]
    writer.close()


def test_nan_and_infinity_are_valid_json(tmp_path):
    writer = MetricWriter(tmp_path)
    writer.write_scalars(1, {"loss": math.nan, "kl": jnp.inf})
    text = (tmp_path / "metrics.jsonl").read_text()
    assert json.loads(text, parse_constant=pytest.fail)["loss"] is None
    assert math.isnan(read_metrics(tmp_path / "metrics.jsonl")[0]["kl"])
    writer.truncate(1)
    assert json.loads((tmp_path / "metrics.jsonl").read_text())["loss"] is None
    writer.close()


def test_a_resumed_run_reads_as_if_never_stopped(tmp_path):
    run(tmp_path / "straight", 1, 6)
    run(tmp_path / "resumed", 1, 5)
    writer = MetricWriter(tmp_path / "resumed")
    writer.truncate(3)
    writer.close()
    run(tmp_path / "resumed", 4, 6)
    straight, resumed = (read_metrics(tmp_path / name / "metrics.jsonl") for name in ("straight", "resumed"))
    assert [(line["step"], line["loss"]) for line in resumed] == [(line["step"], line["loss"]) for line in straight]
    # TensorBoard itself drops the steps from the mark on.
    marks = [event.step for event in events(tmp_path / "resumed") if event.HasField("session_log")]
    assert marks == [4]


def test_time_counts_on_without_the_pause(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "time": 1000.0}\n{"step": 2, "time": 5000.0}\n')
    writer = MetricWriter(tmp_path)
    writer.truncate(1)
    writer.write_scalars(2, {"loss": 0.0})
    writer.close()
    assert 1000 <= read_metrics(tmp_path / "metrics.jsonl")[-1]["time"] < 1100


def test_truncating_before_anything_was_written(tmp_path):
    writer = MetricWriter(tmp_path)
    writer.truncate(0)
    assert read_metrics(tmp_path / "metrics.jsonl") == []
    writer.close()


@pytest.mark.parametrize("torn", ['{"step": 3, "lo', '{"step": 3, "time": 0, "loss": 1}'])
def test_a_torn_last_line_is_left_out_and_never_glued_to(tmp_path, torn):
    run(tmp_path, 1, 2)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write(torn)
    assert steps(tmp_path) == [1, 2]
    run(tmp_path, 3, 4)
    assert steps(tmp_path) == [1, 2, 3, 4]


@pytest.mark.parametrize("broken", ["nonsense", "[1, 2]", '{"loss": 1}', '{"step": 1}'])
def test_a_broken_line_is_named(tmp_path, broken):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "time": 0}\n' + broken + "\n")
    with pytest.raises(ValueError, match=r"metrics\.jsonl:2: no JSON object with step and time"):
        read_metrics(path)


@pytest.mark.parametrize("name", ["step", "time"])
def test_a_reserved_name_is_refused(tmp_path, name):
    writer = MetricWriter(tmp_path)
    with pytest.raises(ValueError, match=f"'{name}'"):
        writer.write_scalars(1, {name: 1.0})


def test_a_disabled_writer_leaves_no_trace(tmp_path):
    writer = MetricWriter(tmp_path / "other", enabled=False)
    writer.write_scalars(1, {"loss": 1.0})
    writer.write_images(1, {"strip": pictures(1)[0]})
    writer.write_gif(1, "video", pictures(2), fps=5)
    writer.truncate(0)
    writer.close()
    assert not list(tmp_path.iterdir())


def test_pictures_are_kept_as_files_and_in_tensorboard(tmp_path):
    image, frames = pictures(1)[0], pictures(3)
    writer = MetricWriter(tmp_path)
    writer.write_images(5, {"eval/strip": image})
    writer.write_gif(5, "eval/video", frames, fps=10)
    writer.close()
    np.testing.assert_array_equal(Image.open(tmp_path / "media/eval/strip.png"), image)
    gif = Image.open(tmp_path / "media/eval/video.gif")
    assert (gif.n_frames, gif.info["duration"], gif.info["loop"]) == (3, 100, 0)
    values = [value for event in events(tmp_path) if event.step == 5 for value in event.summary.value]
    assert [value.tag for value in values] == ["eval/strip", "eval/video"]
    assert (values[1].image.height, values[1].image.width) == (8, 12)
    assert Image.open(io.BytesIO(values[1].image.encoded_image_string)).n_frames == 3


def test_every_logger_gets_what_the_run_writes(tmp_path, monkeypatch):
    calls = []

    class Calls(metric_log.Logger):
        def __init__(self, workdir):
            assert workdir == tmp_path

        def write_scalars(self, step, values):
            calls.append((step, values))

        def write_picture(self, step, name, path, shape):
            assert path.is_file()
            calls.append((step, name, path.suffix, shape))

        def truncate(self, step):
            calls.append(("truncate", step))

        def close(self):
            calls.append("close")

    monkeypatch.setattr(metric_log, "LOGGERS", (*metric_log.LOGGERS, Calls))
    writer = MetricWriter(tmp_path)
    writer.truncate(2)
    writer.write_scalars(3, {"loss": jnp.float32(1.5)})
    writer.write_images(3, {"strip": pictures(1)[0]})
    writer.write_gif(3, "video", pictures(2), fps=5)
    writer.close()
    shape = (8, 12, 3)
    scalars = (3, {"loss": 1.5})
    assert calls == [("truncate", 2), scalars, (3, "strip", ".png", shape), (3, "video", ".gif", shape), "close"]


def test_a_gif_needs_frames():
    with pytest.raises(ValueError, match="at least one frame"):
        encode_gif([], 10)


def test_results_are_plain_json(tmp_path):
    write_results(
        tmp_path / "results.json",
        {
            "ari": jnp.float32(0.5),
            "f_ari": math.nan,
            "lengths": (np.int64(10), 20),
            "video": {"mse": np.arange(2)},
        },
    )
    read = json.loads((tmp_path / "results.json").read_text(), parse_constant=pytest.fail)
    assert read == {"ari": 0.5, "f_ari": None, "lengths": [10, 20], "video": {"mse": [0, 1]}}


def test_a_failed_write_keeps_the_old_file_and_leaves_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "results.json"
    write_atomic(path, b"old")

    def full_disk(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]
