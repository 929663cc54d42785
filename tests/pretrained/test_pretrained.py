"""Files of trained models: round trips, rejected files, and their use."""

import json
import shutil

import jax
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from toy import ToyModel, make_config, overrides, use_toy_model

from stii_jax import pretrained
from stii_jax.config import ConfigError, load_config
from stii_jax.data import DataError
from stii_jax.evaluation import novelty
from stii_jax.inference.request import Request
from stii_jax.main import ERRORS, run
from stii_jax.pretrained import ModelFileError, Trained
from stii_jax.pretrained.cards import model_card
from stii_jax.storage.digests import digest_leaves, name_leaves

pytestmark = pytest.mark.usefixtures("quick_compiles")

FACTS = {"step": 7, "seed": 0, "commit": "abc", "hardware": "two cores", "train_seconds": 3.5}


@pytest.fixture(autouse=True)
def toy(monkeypatch):
    use_toy_model(monkeypatch)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def finished(data_dir, tmp_path_factory):
    """The workdir of a short run."""
    workdir = tmp_path_factory.mktemp("runs") / "run"
    with pytest.MonkeyPatch.context() as patch:
        use_toy_model(patch)
        settings = {"train__num_steps": 2, "eval__periodic_videos": 0, "eval__lengths": (4,)}
        run("train", "default", workdir, overrides(data_dir, **settings))
    return workdir


@pytest.fixture(scope="module")
def exported(finished):
    path = finished.with_name("model.safetensors")
    with pytest.MonkeyPatch.context() as patch:
        use_toy_model(patch)
        run("export", None, finished, [], output=path)
    return path


@pytest.fixture
def model(tmp_path):
    """The file of an untrained model."""
    path = tmp_path / "model.safetensors"
    pretrained.save(path, Trained(make_config(tmp_path / "data"), ToyModel(8).init(jax.random.key(1)), FACTS))
    return path


def read(path):
    return json.loads(path.read_text())


def rewrite(path, change):
    """Change arrays and header of a model's file by `change(arrays, header)`, and update the digests."""
    arrays = load_file(path)
    with safe_open(path, framework="numpy") as file:
        header = json.loads(file.metadata()["stii_jax"])
    header["digests"] = None
    change(arrays, header)
    header["digests"] = header["digests"] or digest_leaves(arrays)
    save_file(arrays, path, {"stii_jax": json.dumps(header)})


def test_parameters_are_restored_to_half_precision(tmp_path, model):
    params = ToyModel(8).init(jax.random.key(1))
    trained = pretrained.load(str(model))
    assert trained.facts == FACTS and trained.step == 7
    assert jax.tree.structure(trained.params) == jax.tree.structure(params)
    for name, leaf in name_leaves(trained.params).items():
        assert leaf.dtype == np.float32
        np.testing.assert_array_equal(leaf, np.asarray(name_leaves(params)[name]).astype(np.float16), name)
    config = make_config(tmp_path / "data")
    config.data.data_dir = ""
    assert trained.config == config


def test_no_path_of_the_machine_is_passed_on(tmp_path):
    for number, options in enumerate(([f"folder={tmp_path}/secret/videos"], ["folder=~/secret/videos"])):
        given = [f"data.options.{option}" for option in options] + ["data.data_dir=/secret", "data.manual_dir=/secret"]
        config = load_config("video_folder", given)
        path = tmp_path / f"{number}.safetensors"
        pretrained.save(path, Trained(config, ToyModel(64, 6).init(jax.random.key(0)), FACTS))
        assert b"secret" not in path.read_bytes() and bytes(tmp_path) not in path.read_bytes()
        assert pretrained.read_config(str(path)).data.options.folder == "videos"


def test_the_same_model_gives_the_same_bytes(tmp_path, model):
    trained = pretrained.load(str(model))
    pretrained.save(tmp_path / "again.safetensors", trained)
    assert (tmp_path / "again.safetensors").read_bytes() == model.read_bytes()


def test_unknown_names(tmp_path):
    with pytest.raises(ModelFileError, match="no model 'quikstart'"):
        pretrained.find("quikstart")
    (tmp_path / "model.npz").write_bytes(b"")
    with pytest.raises(ModelFileError, match=r"or give the path of a \.safetensors file"):
        pretrained.find(str(tmp_path / "model.npz"))


def test_every_flipped_byte_of_the_arrays_is_noticed(model):
    whole = model.read_bytes()
    start = 8 + int.from_bytes(whole[:8], "little")
    for place in np.linspace(start, len(whole) - 1, 15).astype(int):
        model.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        with pytest.raises(ModelFileError, match="damaged"):
            pretrained.load(str(model))


@pytest.mark.parametrize("share", [0, 0.001, 0.5, 0.999])
def test_a_file_that_was_cut_off(model, share):
    whole = model.read_bytes()
    model.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(ModelFileError, match="damaged"):
        pretrained.load(str(model))


def test_a_pickle_is_not_run(payload, model):
    model.write_bytes(payload)
    with pytest.raises(ModelFileError, match="damaged"):
        pretrained.load(str(model))


def test_files_of_something_else(model):
    for change, message in (
        (lambda arrays, header: header.pop("config"), "is not a stii_jax model of format version 1"),
        (lambda arrays, header: header.update(version=2), "is not a stii_jax model of format version 1"),
        (lambda arrays, header: header.update(config=3), "expected a JSON object of settings"),
        (lambda arrays, header: header["config"].update(sed=3), "no setting config.sed"),
        (lambda arrays, header: header.update(facts=[]), "does not state its training step"),
        (lambda arrays, header: header.update(facts={"step": "7"}), "does not state its training step"),
        (lambda arrays, header: header.update(digests={"see": "float32"}), "the digests do not match"),
        (lambda arrays, header: arrays.pop("see"), "see is absent, expected float32"),
        (lambda arrays, header: arrays.update(more=np.zeros(3)), r"more is float32\[3\], expected absent"),
        (lambda arrays, header: arrays.update(see=np.zeros((2, 2))), r"see is float32\[2,2\], expected float32\["),
    ):
        copy = model.with_stem("copy")
        shutil.copy(model, copy)
        rewrite(copy, change)
        with pytest.raises(ModelFileError, match=message) as caught:
            pretrained.load(str(copy))
        assert "\n" not in str(caught.value) and str(copy) in str(caught.value)


def test_parameters_that_cannot_be_saved(tmp_path):
    params = dict(ToyModel(8).init(jax.random.key(1)))
    trained = Trained(make_config(tmp_path), params | {"see": params["see"] * 1e9}, FACTS)
    with pytest.raises(
        ModelFileError, match=r"float16 cannot hold the parameter see.*: it is above 65504, or not finite"
    ):
        pretrained.save(tmp_path / "model.safetensors", trained)
    trained = Trained(make_config(tmp_path), params | {"guess": params["guess"] * np.nan}, FACTS)
    with pytest.raises(ModelFileError, match="guess"):
        pretrained.save(tmp_path / "model.safetensors", trained)
    for path in (tmp_path / "model.npz", tmp_path / "nowhere" / "model.safetensors"):
        with pytest.raises(ModelFileError, match="set --output"):
            pretrained.save(path, trained)
    assert not list(tmp_path.glob("*.safetensors"))


@pytest.mark.slow
def test_a_models_scores_are_those_of_its_run(finished, exported, data_dir, tmp_path):
    given = [f"data.data_dir={data_dir}"]
    run("evaluate", None, tmp_path / "scores", given, model=str(exported))
    own, again = read(finished / "results.json"), read(tmp_path / "scores" / "results.json")
    for name in ("f_ari", "ari", "mse"):
        assert again[name] == pytest.approx(own[name], abs=0.02), name
    assert again["dataset"] == own["dataset"] and again["step"] == own["step"] and again["commit"] == own["commit"]
    assert (tmp_path / "scores" / "media" / "test_0.gif").is_file()
    assert again["results"]["lengths"] == own["lengths"]
    run("predict", None, tmp_path / "scores", given, model=str(exported))
    assert read(tmp_path / "scores" / "prediction.json")["observed_frames"] == 3


def test_a_model_decomposes_without_a_workdir(finished, exported, tmp_path, data_dir):
    video = finished / "media" / "test_0.gif"
    run("decompose", None, None, [], request=Request(video, tmp_path / "found", 2), model=str(exported))
    summary = read(tmp_path / "found" / "decomposition.json")
    assert (summary["model"], summary["step"], summary["num_predicted"]) == (str(exported), 2, 2)
    run("decompose", None, finished, [], request=Request(video, tmp_path / "of_run", 2))
    assert read(tmp_path / "of_run" / "decomposition.json")["workdir"] == str(finished)
    of_model, of_run = (np.load(tmp_path / name / "masks.npz")["segmentation"] for name in ("found", "of_run"))
    assert (of_model == of_run).mean() > 0.95


def test_an_export_has_the_scores_of_its_step_alone(finished, exported, tmp_path):
    assert (
        "results" in pretrained.load(str(exported)).facts and "prediction" not in pretrained.load(str(exported)).facts
    )
    workdir = shutil.copytree(finished, tmp_path / "run")
    (workdir / "results.json").write_text(json.dumps(read(finished / "results.json") | {"step": 1}))
    run("export", None, workdir, [], output=tmp_path / "model.safetensors")
    assert "results" not in pretrained.load(str(tmp_path / "model.safetensors")).facts


def test_the_fit_of_held_out_videos_goes_with_the_model(finished, exported, tmp_path, capsys):
    """They go from the evaluation to the file, and from there to every decomposition."""
    measured = read(finished / "results.json")[novelty.KEY]
    assert measured["num_videos"] == 6 and [entry["num_frames"] for entry in measured["per_video"]] == [1, 3, 4]
    mse = read(finished / "results.json")["mse"]
    assert measured["per_frame"]["mse"]["q01"] < mse < measured["per_frame"]["mse"]["q99"]
    assert pretrained.load(str(exported)).facts["results"][novelty.KEY] == measured
    request = Request(finished / "media" / "test_0.gif", tmp_path / "found")
    run("decompose", None, None, [], request=request, model=str(exported))
    found = read(tmp_path / "found" / "decomposition.json")["novelty"]
    typical = measured["per_video"][-1]["relative_error"]["q50"]
    assert found["relative_error"]["held_out"] == typical
    assert f"Reconstruction of held-out videos, the median over 6: relative error {typical:.3f}" in model_card(
        str(exported)
    )


def test_a_model_takes_up_scores_that_it_lacks(finished, exported, tmp_path, capsys):
    """A model from an older version gains them; its parameters and other facts stay bit for bit the same."""
    old, new = tmp_path / "old.safetensors", tmp_path / "new.safetensors"
    shutil.copy(exported, old)
    rewrite(old, lambda _, header: header["facts"]["results"].pop(novelty.KEY))
    request = Request(finished / "media" / "test_0.gif", tmp_path / "found")
    run("decompose", None, None, [], request=request, model=str(old))
    assert read(tmp_path / "found" / "decomposition.json")["novelty"]["is_novel"] is None
    assert "Reconstruction" not in model_card(str(old))

    run("export", None, tmp_path / "nothing", [], model=str(old), output=new)
    assert "run --mode evaluate first, and its decompositions will warn of unfamiliar videos" in capsys.readouterr().out
    assert new.read_bytes() == old.read_bytes()
    scores = read(finished / "results.json")
    (tmp_path / "scores").mkdir()
    (tmp_path / "scores" / "results.json").write_text(json.dumps(scores | {"lengths": []}))
    run("export", None, tmp_path / "scores", [], model=str(old), output=new)
    assert capsys.readouterr().out.endswith("with scores\n")
    assert pretrained.load(str(new)).facts == pretrained.load(str(exported)).facts
    assert {name: array.tobytes() for name, array in load_file(new).items()} == {
        name: array.tobytes() for name, array in load_file(exported).items()
    }


def test_flags_that_would_do_nothing(finished, exported, tmp_path):
    request, name = Request(finished / "media" / "test_0.gif", tmp_path / "found"), str(exported)
    for mode, config, workdir, settings, model, message in (
        ("train", None, tmp_path, [], name, "--model would do nothing with --mode train"),
        ("export", None, finished, [], name, "already holds a run"),
        ("export", None, None, [], name, "give --workdir, the folder of the model's results"),
        ("evaluate", "default", tmp_path, [], name, "leave out --config"),
        ("evaluate", None, None, [], name, "give --workdir, the folder for the results"),
        ("evaluate", None, finished, [], name, "already holds a run"),
        ("evaluate", None, tmp_path, ["model.num_slots=5"], name, "model.num_slots: saved 2, given 5"),
        ("decompose", None, tmp_path, [], name, "--workdir would do nothing here"),
        ("decompose", None, None, [], None, "or --model, a trained one"),
        ("train", "default", None, [], None, "give --workdir, the folder of the run"),
        ("export", None, finished, ["seed=1"], None, "writes the model as it was trained"),
        ("export", "default", finished, [], None, "writes the model as it was trained"),
    ):
        with pytest.raises(ConfigError, match=message):
            run(mode, config, workdir, settings, request=request, model=model, output=tmp_path / "m.safetensors")
    with pytest.raises(ModelFileError, match="no model 'quik'"):
        run("evaluate", None, tmp_path, [], model="quik")
    assert issubclass(ModelFileError, ERRORS) and issubclass(DataError, ERRORS)
    assert not (tmp_path / "found").exists()


def test_a_card_without_scores_or_text(model):
    text = model_card(str(model))
    assert "| steps, seed | 7, 0 |" in text and "| hardware | two cores |" in text and "frames |" not in text
