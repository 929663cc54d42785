"""Datasets, videos, pictures and results of strangers are data; see docs/security.md."""

import io
import json
import shutil
import socket
import struct
import zipfile
import zlib
from fractions import Fraction
from pathlib import Path

import av
import h5py
import numpy as np
import pytest
from PIL import Image
from sample_recordings import write_raw, write_rnem, write_video
from toy import make_config

from stii_jax.data import DataError, open_dataset
from stii_jax.data.catalog import prepare
from stii_jax.data.errors import DamageError
from stii_jax.data.video import pyav
from stii_jax.data.video.images import read_image
from stii_jax.data.video.videofile import read_frames
from stii_jax.report.command import main as report
from stii_jax.report.tables import to_csv

ROOT = Path(__file__).resolve().parents[2]


def write_npz(path, kind, shape, data=b""):
    """Write one array: its header, followed by any bytes."""
    path.parent.mkdir(exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive, archive.open("segmentation.npy", "w") as member:
        np.lib.format.write_array_header_1_0(member, {"descr": kind, "fortran_order": False, "shape": shape})
        member.write(data)


# --- datasets


@pytest.mark.parametrize("kind", ["objects", "bare", "larger than memory"])
def test_masks_that_are_no_arrays(tmp_path, payload, kind):
    path = tmp_path / "videos" / "a.npz"
    if kind == "objects":  # which numpy would unpickle
        write_npz(path, "|O", (1,), payload)
        with pytest.raises(FileExistsError), np.load(path, allow_pickle=True) as file:
            (tmp_path / "marker").mkdir()
            file["segmentation"]
        (tmp_path / "marker").rmdir()
    elif kind == "larger than memory":
        write_npz(path, "|u1", (1 << 40, 1 << 10, 8))
    else:
        path.parent.mkdir()
        path.write_bytes(payload)
    write_raw(path.with_suffix(".mkv"), np.zeros((4, 8, 8, 3), np.uint8))
    options = {"folder": str(path.parent), "image_size": 8, "num_frames": 2}
    with pytest.raises(DataError, match=r"a.npz cannot be read as an npz file of arrays"):
        prepare("video_folder", "default", options, data_dir=str(tmp_path / "data"))


@pytest.mark.parametrize("kind", ["text", "opaque", "bare"])
def test_hdf5_of_pickles(tmp_path, payload, kind):
    path = tmp_path / "manual" / "balls4mass64.h5"
    write_rnem(path, {"train": 2, "validation": 1, "test": 1}, 8)
    if kind == "bare":
        path.write_bytes(payload)
    else:
        with h5py.File(path, "a") as file:
            shape = file["training/features"].shape
            del file["training/features"]
            what = h5py.string_dtype() if kind == "text" else np.dtype(f"V{len(payload)}")
            file.create_dataset("training/features", shape, what)
            file["training/features"][0, 0, 0, 0, 0] = payload.hex() if kind == "text" else np.void(payload)
    message = "cannot be read as HDF5" if kind == "bare" else r"'features' of type .*: it should be numbers"
    with pytest.raises(DataError, match=message):
        prepare("rnem_balls", "color4", {"num_frames": 8}, str(tmp_path / "data"), str(path.parent))


def test_a_dataset_names_classes(tmp_path, marker, module):
    """TFDS makes features of classes that a file names, unless the builder names them."""
    config = make_config(tmp_path / "data").data
    place = config.dataset, config.variant, config.options.to_dict(), config.data_dir
    folder = Path(prepare(*place).data_path)
    features = (folder / "features.json").read_text()
    assert '"pythonClassName": "' in features
    content = json.loads(features) | {"pythonClassName": f"{module}.Evil"}
    (folder / "features.json").write_text(json.dumps(content))
    batch = next(open_dataset(*place).train_batches(num_frames=2, batch_size=2, seed=0))
    assert batch["video"].shape == (2, 2, 8, 8, 3)


# --- videos and pictures


@pytest.mark.parametrize("suffix", [".mp4", ".m3u8", ".mkv"])
def test_a_video_opens_no_connection_and_no_file_of_another_folder(tmp_path, suffix):
    """Playlists are text that ffmpeg may follow, whatever their name."""
    private = write_video(tmp_path / "private.mkv", np.zeros((2, 32, 32, 3), np.uint8))
    (tmp_path / "sent").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        address = f"127.0.0.1:{server.getsockname()[1]}"
        for target in (f"http://{address}/a.ts", f"tcp://{address}", f"file:{private}", "../private.mkv"):
            hls = f"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\n{target}\n#EXT-X-ENDLIST\n"
            for text in (hls, f"ffconcat version 1.0\nfile '{target}'\n"):
                path = tmp_path / "sent" / f"video{suffix}"
                path.write_text(text)
                with pytest.raises(DataError):
                    next(read_frames(path))
        with pytest.raises(TimeoutError):
            server.accept()


def test_frames_that_fill_the_memory(tmp_path, monkeypatch):
    video = write_video(tmp_path / "video.mkv", np.zeros((2, 64, 64, 3), np.uint8))
    assert len(list(read_frames(video))) == 2
    monkeypatch.setattr(pyav, "MAX_PIXELS", 64 * 64 - 1)
    with pytest.raises(DataError, match="has frames of 64x64 pixels, over 4095 in all"):
        next(read_frames(video))


@pytest.mark.parametrize("most", [64 * 64, 64 * 64 - 1])
def test_frames_that_are_larger_than_announced(tmp_path, monkeypatch, most):
    """The second frame is a picture of another size."""
    path = tmp_path / "video.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=1)
        stream.width = stream.height = 16
        stream.pix_fmt = "yuvj420p"
        container.start_encoding()
        for number, side in enumerate((16, 64)):
            picture = io.BytesIO()
            Image.new("RGB", (side, side)).save(picture, "JPEG")
            packet = av.Packet(picture.getvalue())
            packet.stream, packet.pts, packet.dts = stream, number, number
            packet.time_base = Fraction(1)
            container.mux(packet)
    monkeypatch.setattr(pyav, "MAX_PIXELS", most)
    frames = read_frames(path)
    assert next(frames).shape == (16, 16, 3)
    if most >= 64 * 64:
        assert next(frames).shape == (64, 64, 3)
    else:
        with pytest.raises(DamageError, match="damaged after 1 frames"):
            next(frames)


def test_pictures_that_fill_the_memory(tmp_path):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0))
    path = tmp_path / "bomb.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b""))
    with pytest.raises(DataError, match=r"bomb.png cannot be read as an image: .*decompression bomb"):
        read_image(path)


# --- reports on runs of strangers


SCORE = {"num_frames": 2, "num_videos": 4} | dict.fromkeys(("ari", "f_ari", "video_ari", "video_f_ari", "mse"), 0.5)


def entry(**changes):
    return {
        "name": "run",
        "config": {"data": {}, "model": {}},
        "commit": "c",
        "seed": 0,
        "hardware": "h",
        "wall_seconds": 1.0,
        "dataset": "d/v",
        "scores": [SCORE],
    } | changes


def report_on(tmp_path, *entries):
    runs, output = tmp_path / "runs", tmp_path / "report"
    runs.mkdir(exist_ok=True)
    for number, content in enumerate(entries):
        (runs / f"{number}-seed0.json").write_text(json.dumps(content))
    return report(["--runs", str(runs), "--output", str(output), "--results", str(tmp_path)]), output


def test_a_report_holds_no_html(tmp_path):
    evil = "<script>alert(1)</script>\n| a | b |\n# title"
    code, output = report_on(tmp_path, entry(name=evil, dataset=f"d/{evil}"))
    assert code == 0
    page = (output / "results.md").read_text()
    assert "alert(1)" in page and "<" not in page
    assert all(line.startswith("|") for line in page.splitlines() if "| ---" in line)
    assert {path.parent for path in output.iterdir()} == {output}


def test_tables_hold_no_formulas():
    rows = [["=HYPERLINK(1)", "+1", "-x", "@a", "\tb", "plain", -0.5, 3, None]]
    assert to_csv(["a"], rows).splitlines()[1] == "'=HYPERLINK(1),'+1,'-x,'@a,'\tb,plain,-0.5,3,"


@pytest.mark.parametrize("change", [{"seed": "/../../x"}, {"seed": True}, {"seed": 1.5}, {"name": ["x"]}])
def test_a_run_s_name_and_seed_are_no_paths(tmp_path, change, capsys):
    assert report_on(tmp_path, entry(**change))[0] == 2
    assert f"`{next(iter(change))}` is" in capsys.readouterr().err


def test_a_report_takes_no_picture_from_elsewhere(tmp_path):
    (tmp_path / "private").write_text("secret")
    media = tmp_path / "runs" / "0" / "seed0" / "media"
    media.mkdir(parents=True)
    (media / "test_0.png").write_bytes(b"picture")
    _, output = report_on(tmp_path, entry())
    assert (output / "strip_run.png").read_bytes() == b"picture"
    shutil.rmtree(output)
    (media / "test_0.png").unlink()
    (media / "test_0.png").symlink_to(tmp_path / "private")
    code, output = report_on(tmp_path, entry())
    assert code == 0 and not list(output.glob("strip*"))
