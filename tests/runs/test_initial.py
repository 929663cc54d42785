"""Training that starts from a trained model: fitting parameters are copied bit for bit, the others are listed."""

import json
import re
import shutil

import jax
import numpy as np
import pytest
from test_loop import bits, logged, stop_after
from toy import ToyModel, make_config, overrides, save_run, use_toy_model

import stii_jax
from stii_jax import pretrained
from stii_jax.config import ConfigError
from stii_jax.main import run
from stii_jax.pretrained import ModelFileError, Trained
from stii_jax.pretrained.cards import model_card
from stii_jax.runs import modes, setup
from stii_jax.runs.initial import load_initial
from stii_jax.runs.settings import check_init
from stii_jax.storage.checkpoints import restore_params
from stii_jax.training.loop import Trainer
from stii_jax.visualization import visualize

pytestmark = pytest.mark.usefixtures("quick_compiles")

SIZE = 8
NO_EVALUATION = {"train__eval_every": 1000, "eval__periodic_videos": 0}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.fixture(autouse=True)
def toy(monkeypatch):
    use_toy_model(monkeypatch)
    monkeypatch.setattr(modes, "evaluate", lambda *_: None)
    monkeypatch.setattr(visualize, "plot_learning_curve", lambda *_: None)


@pytest.fixture(scope="module")
def params():
    return ToyModel(SIZE).init(jax.random.key(7))


@pytest.fixture(scope="module")
def workdir(params, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / "teacher"
    save_run(folder, params)
    return folder


@pytest.fixture(scope="module")
def file(workdir, params, tmp_path_factory):
    path = tmp_path_factory.mktemp("file") / "teacher.safetensors"
    config = make_config(workdir)
    with pytest.MonkeyPatch.context() as patch:
        use_toy_model(patch)
        pretrained.save(path, Trained(config, params, {"step": 3, "seed": 0}))
    return path


def settings(data_dir, **changes):
    return overrides(data_dir, **NO_EVALUATION, **changes)


def first_params(data_dir, folder, init, **changes):
    """Return the parameters before the first step of a run that starts from `init`."""
    config = make_config(data_dir, **NO_EVALUATION, **changes)
    source = setup.load_dataset(config)
    trainer = Trainer(config, source, source, folder)
    initial = load_initial(str(init), trainer.model)
    state, _, _ = trainer.restore(initial.params)
    fresh, _, _ = trainer.restore()
    trainer.writer.close()
    return state, fresh, initial


def test_everything_fits(workdir, params, data_dir, tmp_path):
    """Adam's averages, the key and the step are those of a new run."""
    state, fresh, initial = first_params(data_dir, tmp_path, workdir)
    assert bits(state.params) == bits(params) != bits(fresh.params)
    assert bits(state._replace(params={})) == bits(fresh._replace(params={}))
    assert initial.record["fresh"] == []
    assert initial.line == f"starting from {workdir}, step 3, with 5 of its 5 parameter arrays"


def test_a_file_is_as_good_as_the_run(file, params, data_dir, tmp_path):
    state, _, _ = first_params(data_dir, tmp_path, file)
    rounded = {name: np.asarray(leaf).astype(np.float16).astype(np.float32) for name, leaf in params.items()}
    assert bits(state.params) == bits(rounded)


def test_frames_of_another_size(workdir, params, data_dir, tmp_path):
    changes = {"data__options__image_size": 12, "model__num_slots": 3}
    state, fresh, initial = first_params(data_dir, tmp_path, workdir, **changes)
    for name, leaf in state.params.items():
        expected = fresh.params if name in ("see", "draw") else params
        np.testing.assert_array_equal(leaf, expected[name])
    assert initial.record["fresh"] == ["draw", "see"]
    assert initial.line == (
        f"starting from {workdir}, step 3, with 3 of its 5 parameter arrays; freshly initialised because they do not "
        "fit: draw (is float32[2,256], expected float32[2,576]), see (is float32[192,4], expected float32[432,4])"
    )


def test_parameters_that_only_one_of_the_models_has(params, tmp_path):
    renamed = {"extra" if name == "see" else name: leaf for name, leaf in params.items()}
    save_run(tmp_path / "other", renamed)
    line = load_initial(str(tmp_path / "other"), ToyModel(SIZE)).line
    assert "with 4 of its 5 parameter arrays; freshly" in line
    assert line.endswith("see (is absent, expected float32[192,4]); not part of the model to train: extra")


def test_a_model_without_overlap(params, tmp_path):
    save_run(tmp_path / "other", {f"my_{name}": leaf for name, leaf in params.items()})
    message = r"other has no parameter that fits .* \(draw is absent, expected .*\): give a model with the same"
    with pytest.raises(ConfigError, match=message) as caught:
        load_initial(str(tmp_path / "other"), ToyModel(SIZE))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("changes", [{"model__num_slots": 3, "data__options__image_size": 12}, {"data__num_frames": 4}])
def test_other_slots_sizes_and_clips_train(workdir, data_dir, tmp_path, changes, capsys):
    run("train", "default", tmp_path / "run", settings(data_dir, train__num_steps=2, **changes), init=str(workdir))
    assert f"starting from {workdir}, step 3, with " in capsys.readouterr().out
    trained, meta = restore_params(tmp_path / "run" / "checkpoints")
    assert meta["step"] == 2 and all(np.isfinite(leaf).all() for leaf in trained.values())


@pytest.fixture(scope="module")
def straight(workdir, data_dir, tmp_path_factory):
    """An undisturbed run from the trained model."""
    folder = tmp_path_factory.mktemp("straight") / "run"
    with pytest.MonkeyPatch.context() as patch:
        use_toy_model(patch)
        patch.setattr(modes, "evaluate", lambda *_: None)
        patch.setattr(visualize, "plot_learning_curve", lambda *_: None)
        run("train", "default", folder, settings(data_dir), init=str(workdir))
    return folder


@pytest.mark.parametrize("again", [True, False])
def test_resuming_is_exact_and_ignores_the_model(straight, workdir, data_dir, tmp_path, monkeypatch, capsys, again):
    """The model may even be gone by then, and the provenance is kept."""
    folder, teacher = tmp_path / "run", tmp_path / "teacher"
    shutil.copytree(workdir, teacher)
    with monkeypatch.context() as patch:
        patch.setattr(modes, "Trainer", stopped_after(3))
        with pytest.raises(KeyboardInterrupt):
            run("train", "default", folder, settings(data_dir), init=str(teacher))
    begun = json.loads((folder / "provenance.json").read_text())["init"]
    shutil.rmtree(teacher)
    capsys.readouterr()
    run("train", "default", folder, settings(data_dir), init=str(teacher) if again else None)
    out = capsys.readouterr().out
    line = f"{folder} has a checkpoint: training continues from it, and --init {teacher} is ignored\n"
    assert (line in out) == again and "Resuming from the checkpoint of step 2\n" in out
    assert bits(restore_params(folder / "checkpoints")[0]) == bits(restore_params(straight / "checkpoints")[0])
    assert logged(folder) == logged(straight)
    assert json.loads((folder / "provenance.json").read_text())["init"] == begun


def stopped_after(num_steps):
    class Stopped(Trainer):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            stop_after(self, num_steps)

    return Stopped


def test_the_record(straight, workdir, file, tmp_path):
    """It names no folder of this machine, because it becomes part of exported files."""
    record = json.loads((straight / "provenance.json").read_text())["init"]
    assert record == load_initial(str(workdir), ToyModel(SIZE)).record
    assert (record["model"], record["step"], record["seed"], record["fresh"]) == ("teacher", 3, 0, [])
    assert re.fullmatch("[0-9a-f]{32}", record["digest"])
    assert record["digest"] != load_initial(str(file), ToyModel(SIZE)).record["digest"], "rounded to float16"
    run("export", None, straight, [], output=tmp_path / "student.safetensors")
    assert pretrained.load(str(tmp_path / "student.safetensors")).facts["init"] == record
    row = f"| started from | teacher, step 3 (parameters {record['digest']}) |"
    assert row in model_card(str(tmp_path / "student.safetensors"))


def test_a_run_without_a_checkpoint_forgets_the_model_that_it_was_begun_with(workdir, data_dir, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(modes, "Trainer", stopped_after(1))
        with pytest.raises(KeyboardInterrupt):
            run("train", "default", tmp_path / "run", settings(data_dir), init=str(workdir))
    run("train", "default", tmp_path / "run", settings(data_dir, train__num_steps=2))
    assert "init" not in json.loads((tmp_path / "run" / "provenance.json").read_text())


def test_in_python(file, data_dir, tmp_path, capsys):
    changed = settings(data_dir, train__num_steps=2, optim__learning_rate=1e-30)
    model = stii_jax.train("default", tmp_path / "run", changed, init=file)
    taught = pretrained.load(str(file)).params
    jax.tree.map(np.testing.assert_array_equal, model.params, taught)
    assert model.facts["init"]["model"] == "teacher.safetensors"
    assert f"starting from {file}, step 3" in capsys.readouterr().out


def refused(error, message, init, tmp_path, data_dir, **changes):
    with pytest.raises(error, match=message) as caught:
        run("train", "default", tmp_path / "run", settings(data_dir, **changes), init=str(init))
    assert "\n" not in str(caught.value) and not (tmp_path / "run").exists()


def test_invalid_models(workdir, file, data_dir, tmp_path):
    missing = r"--init runs/mien does not exist: give a model that comes with the package \(.*\), a \.safetensors file"
    refused(ConfigError, missing, "runs/mien", tmp_path, data_dir)
    (tmp_path / "empty").mkdir()
    refused(ConfigError, "empty is a folder without a run's checkpoint", tmp_path / "empty", tmp_path, data_dir)
    (tmp_path / "mine.safetensors").write_bytes(file.read_bytes()[:-100])
    refused(ModelFileError, "mine.safetensors is damaged", tmp_path / "mine.safetensors", tmp_path, data_dir)
    (tmp_path / "mine.pth").touch()
    refused(ModelFileError, r"no model '.*mine\.pth'", tmp_path / "mine.pth", tmp_path, data_dir)


@pytest.mark.parametrize("made", ["file", "workdir"])
def test_a_model_of_another_system(request, data_dir, tmp_path, made):
    init = request.getfixturevalue(made)
    refused(
        ConfigError,
        r"is a stii model, but the config trains rnem: give a rnem model, or change --config\.system",
        init,
        tmp_path,
        data_dir,
        system="rnem",
    )


def test_a_model_of_another_architecture(file, data_dir, tmp_path):
    """Its layers have the same names, and some have the same shapes."""
    message = "has the architecture paper, but the config trains pyramid: give a model with the architecture"
    refused(ConfigError, message, file, tmp_path, data_dir, model__architecture="pyramid")


def test_a_shipped_model_is_found_by_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "quickstart").mkdir()
    check_init("quickstart", stii_jax.load_config("quickstart"), tmp_path / "run")


def test_it_goes_with_training_alone(tmp_path):
    with pytest.raises(ConfigError, match="--init would do nothing with --mode predict: use it with --mode train"):
        run("predict", None, tmp_path, [], init="quickstart")
