"""Tests of `--mode learn_motion`, from a run to the predictions of a model file."""

import json
import shutil

import jax
import numpy as np
import pytest
from toy import make_config, overrides, save_run

import stii_jax
from stii_jax import pretrained
from stii_jax.config import ConfigError
from stii_jax.main import run
from stii_jax.models import registry
from stii_jax.pretrained import ModelFileError, cards
from stii_jax.runs import motion
from stii_jax.storage.digests import digest_leaves

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("quick_compiles")]

SETTINGS = [
    *("motion.num_videos=6", "motion.horizon=1", "motion.num_steps=5"),
    *("motion.batch_size=4", "motion.width=8"),
]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def params():
    return registry.make_model(make_config("/nowhere"), 8).init(jax.random.key(0))


@pytest.fixture(scope="module")
def workdir(params, data_dir, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / "run"
    save_run(folder, params, data__options__num_frames=8)
    return folder


@pytest.fixture(scope="module")
def given(data_dir):
    return [f"data.data_dir={data_dir}", *SETTINGS]


@pytest.fixture(scope="module")
def file(workdir, given):
    path = workdir.parent / "moving.safetensors"
    run("learn_motion", None, workdir, given, output=path)
    return path


def tracks_of(workdir):
    return sorted((workdir / "tracks").glob("*.npz"))


def test_the_file_is_the_model_with_a_motion(file, params):
    loaded = pretrained.load(str(file))
    assert loaded.config.model.predictor == "motion" and loaded.config.motion.width == 8
    own = {name: value for name, value in loaded.params.items() if name != "motion"}
    for ours, theirs in zip(jax.tree.leaves(own), jax.tree.leaves(params), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-6)  # float16 in the file
    facts = loaded.facts["motion"]
    assert "motion" in cards.model_card(str(file)) and "% of the image side" in cards.model_card(str(file))
    assert facts["num_videos"] == 6 and facts["horizon"] == 1 and facts["motion_error"] >= 0


def test_a_second_call_reads_the_tracks(workdir, file, given, monkeypatch, capsys):
    before = pretrained.load(str(file))
    monkeypatch.setattr(motion, "_tracks", lambda *_: pytest.fail("decomposed again"))
    again = file.with_name("again.safetensors")
    run("learn_motion", None, workdir, given, output=again)
    assert "already" in capsys.readouterr().out
    assert digest_leaves(pretrained.load(str(again)).params) == digest_leaves(before.params)


def test_what_was_stopped_goes_on(workdir, file, given, tmp_path, monkeypatch):
    """Batches of videos that an earlier call decomposed are not decomposed again."""
    monkeypatch.setattr(motion, "_VIDEOS_PER_FILE", 2)
    copy = tmp_path / "run"
    shutil.copytree(workdir, copy, ignore=shutil.ignore_patterns("tracks"))
    written, write = [], motion._write

    def stop_at_second(path, tracks):
        if len(written) == 1:
            raise KeyboardInterrupt
        written.append(path)
        write(path, tracks)

    with monkeypatch.context() as patch:
        patch.setattr(motion, "_write", stop_at_second)
        with pytest.raises(KeyboardInterrupt):
            run("learn_motion", None, copy, given, output=tmp_path / "a.safetensors")
    assert tracks_of(copy) == written and not (tmp_path / "a.safetensors").exists()
    monkeypatch.setattr(motion, "_write", lambda path, tracks: (written.append(path), write(path, tracks)))
    run("learn_motion", None, copy, given, output=tmp_path / "a.safetensors")
    assert tracks_of(copy) == written and len(written) == len(set(written)) == 3
    assert digest_leaves(pretrained.load(str(tmp_path / "a.safetensors")).params) == digest_leaves(
        pretrained.load(str(file)).params
    )


def test_other_settings_have_tracks_of_their_own(workdir, file, given):
    count = len(tracks_of(workdir))
    run("learn_motion", None, workdir, [*given, "eval.num_slots=3"], output=file.with_name("three.safetensors"))
    assert len(tracks_of(workdir)) == 2 * count


def test_predictions_differ_by_predictor(file, data_dir, tmp_path):
    settings = [f"data.data_dir={data_dir}"]
    for predictor in ("", "velocity", "prior"):
        run("predict", None, tmp_path, [*settings, f"eval.predictor={predictor}"], model=str(file))
    scores = [json.loads((tmp_path / f"prediction{label}.json").read_text()) for label in ("", "_velocity", "_prior")]
    assert len({json.dumps(of["lengths"]) for of in scores}) > 1
    assert all(np.isfinite(of["lengths"][-1]["ari"]) for of in scores)


def test_a_decomposition_predicts_with_it(file):
    video = np.random.default_rng(0).integers(0, 255, (4, 8, 8, 3), np.uint8)
    found = stii_jax.load_model(file).decompose(video)
    future = found.predict(3)
    assert future.masks.shape == (3, 8, 8)


def test_a_model_without_motion_cannot_take_it(workdir, data_dir):
    with pytest.raises(ConfigError, match=r"eval\.predictor is 'motion'.*learn_motion"):
        run("predict", None, workdir, [f"data.data_dir={data_dir}", "eval.predictor=motion"])


def test_a_motion_is_not_trained_with_the_model(data_dir, tmp_path):
    with pytest.raises(ConfigError, match="predictor=prior"):
        run("train", "default", tmp_path / "new", [*overrides(data_dir), "model.predictor=motion"])


def test_its_settings_are_those_it_was_learned_with(file, tmp_path):
    with pytest.raises(ConfigError, match=r"motion\.width: saved 8, given 16"):
        run("predict", None, tmp_path, ["motion.width=16"], model=str(file))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("motion.horizon=5", "clips of 11 frames"),
        ("motion.num_videos=1", "two videos"),
    ],
)
def test_too_little_to_learn_from(workdir, given, settings, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        run("learn_motion", None, workdir, [*given, settings], output=tmp_path / "a.safetensors")


def test_a_file_of_another_name_is_refused_before_the_work(workdir, given, tmp_path, monkeypatch):
    monkeypatch.setattr(motion, "load_dataset", lambda *_: pytest.fail("began to work"))
    with pytest.raises(ModelFileError, match="set --output"):
        run("learn_motion", None, workdir, given, output=tmp_path / "a.txt")


def test_damaged_tracks_are_named(workdir, file, given, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(workdir, copy)
    path = tracks_of(copy)[0]
    for damaged in tracks_of(copy):
        damaged.write_bytes(damaged.read_bytes()[:100])
    with pytest.raises(ConfigError, match=f"{path.parent}.*is damaged: delete it"):
        run("learn_motion", None, copy, given, output=tmp_path / "a.safetensors")


def test_other_systems_have_none(data_dir, tmp_path):
    config = make_config(data_dir, system="rnem")
    with pytest.raises(ConfigError, match="'rnem'"):
        motion.check_motion(config, 40, 100)
