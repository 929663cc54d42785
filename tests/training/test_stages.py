"""Stages with separate settings: what each trains with, resuming the whole run, and invalid stages."""

import jax
import numpy as np
import pytest
from toy import make_config, use_toy_model

from stii_jax.config import ConfigError, from_json, load_config, stage_configs, to_json
from stii_jax.runs.setup import check, open_stages
from stii_jax.storage.metric_log import read_metrics
from stii_jax.training.loop import Trainer

WHITE_FIRST = {
    "train__num_steps": 4,
    "curriculum__first": ("data.options.num_colors=0", "model.temperature=3"),
    "curriculum__stages": ((2, 4, 4, "model.temperature=2", "loss.kl=1"), (3, 4, 4)),
}
TWO_STAGES = {"train__num_steps": 2, "train__eval_every": 4, "curriculum__stages": ((2, 4, 2),)}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def make_trainer(data_dir):
    def make(workdir, **changes):
        config = make_config(data_dir, **(WHITE_FIRST | changes))
        sources = open_stages(config)
        return Trainer(config, sources, sources[-1], workdir)

    return make


def test_each_stage_has_the_config_of_a_run_of_its_own(data_dir):
    config = make_config(data_dir, **WHITE_FIRST)
    first, second, third = stage_configs(config)
    assert (first.data.options.num_colors, first.model.temperature, first.loss.kl) == (0, 3.0, 10.0)
    assert ("num_colors" in second.data.options, second.model.temperature, second.loss.kl) == (False, 2.0, 1.0)
    assert (third.model.temperature, third.loss.kl) == (config.model.temperature, config.loss.kl)
    assert [(c.data.num_frames, c.batch_size, c.train.num_steps) for c in (first, second, third)] == [
        *[(2, 4, 4), (2, 4, 4), (3, 4, 4)]
    ]
    assert all(c.curriculum.first == c.curriculum.stages == () for c in (first, second, third))
    assert stage_configs(load_config(from_json(to_json(config)))) == [first, second, third]


def test_models_and_videos_are_the_stages(make_trainer, tmp_path):
    """With the real models: making a trainer compiles nothing."""
    trainer = make_trainer(tmp_path)
    assert [model.elbo.temperature for model in trainer.models] == [3, 2, 1]
    assert [model.elbo.weights["kl"] for model in trainer.models] == [10, 1, 10]
    assert trainer.model.elbo.temperature == 1
    white, *colored = trainer.sources
    assert colored[0] is colored[1]
    colors = [
        np.unique(next(source.train_batches(2, 4, 0))["video"].reshape(-1, 3), axis=0) for source in (white, colored[0])
    ]
    np.testing.assert_array_equal(colors[0], [[0, 0, 0], [255, 255, 255]])
    assert len(colors[1]) > 2


def test_stages_that_differ_in_clips_alone_share_a_program(make_trainer, tmp_path):
    trainer = make_trainer(tmp_path, curriculum__stages=((2, 8, 4, "model.temperature=3"), (3, 4, 4), (6, 4, 4)))
    assert trainer._programs[0] is trainer._programs[1]
    assert trainer._programs[2] is trainer._programs[3]
    assert trainer._programs[0] is not trainer._programs[2]


@pytest.mark.usefixtures("quick_compiles")
@pytest.mark.parametrize("stopped", [3, 7])
def test_resumes_bit_for_bit(make_trainer, tmp_path, capsys, monkeypatch, stopped):
    use_toy_model(monkeypatch)
    expected = make_trainer(tmp_path / "straight").run()
    assert (
        "stage 1 of 3: compiling the step, for 4 clips of 2 frames, data.options.num_colors=0, "
        in capsys.readouterr().out
    )
    trainer = make_trainer(tmp_path / "stopped")
    steps = list(trainer._steps)

    def stops(state, *arguments):
        if int(state.step) == stopped:
            raise KeyboardInterrupt
        return steps[0](state, *arguments)

    trainer._steps = [stops] * 3
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    state = make_trainer(tmp_path / "stopped").run()
    for name, leaf in expected.params.items():
        np.testing.assert_array_equal(state.params[name], leaf)
    losses = [
        [line["loss"] for line in read_metrics(tmp_path / run / "metrics.jsonl")] for run in ("straight", "stopped")
    ]
    assert losses[0] == losses[1] and len(losses[0]) == 6


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"curriculum__first": ("model.num_slots=3",)},
            r"curriculum\.first is .*model\.num_slots=3.*, expected settings",
        ),
        (
            {"curriculum__first": (3,)},
            r"curriculum\.first is \(3,\), expected settings as 'key=value', each of data\.variant",
        ),
        ({"curriculum__stages": ((2, 4, 4, "model.temperature=0"),)}, r"^stage 2 of the training: .*more than 0"),
        ({"curriculum__stages": ((2, 4, 4, "model.temperatur=1"),)}, r"curriculum\.stages is .*temperatur"),
        ({"curriculum__first": ("model.likelihood=soft",)}, r"^stage 1 of the training: .*one of 'joint'"),
        ({"curriculum__stages": ((2, 4, 4, "loss.kl"),)}, r"^stage 2 of the training: override 'loss.kl' has no value"),
    ],
)
def test_settings_that_no_stage_can_have(data_dir, changes, message):
    with pytest.raises(ConfigError, match=message) as caught:
        make_config(data_dir, **changes)
    assert "\n" not in str(caught.value)


def test_the_papers_layers_are_for_frames_of_one_size(data_dir):
    config = make_config(data_dir, curriculum__first=("data.options.image_size=16",))
    message = r"stage 1 of the training has frames of 16 pixels, but the model is for 8.* model.architecture=pyramid"
    with pytest.raises(ConfigError, match=message):
        check(config, "train")


def test_the_pyramid_has_frames_of_another_size_first(data_dir, tmp_path):
    config = make_config(
        data_dir, model__architecture="pyramid", curriculum__first=("data.options.image_size=12",), **TWO_STAGES
    )
    check(config, "train")
    sources = open_stages(config)
    trainer = Trainer(config, sources, sources[-1], tmp_path)
    assert [model.frame_shape for model in trainer.models] == [(12, 12, 3), (8, 8, 3)]
    assert trainer.model.frame_shape == (8, 8, 3)
    shapes = [jax.eval_shape(model.init, jax.random.key(0)) for model in trainer.models]
    assert shapes[0] == shapes[1]


@pytest.mark.slow
@pytest.mark.usefixtures("quick_compiles")
def test_the_pyramid_trains_on_frames_of_another_size_first(data_dir, tmp_path):
    config = make_config(
        data_dir, model__architecture="pyramid", curriculum__first=("data.options.image_size=12",), **TWO_STAGES
    )
    sources = open_stages(config)
    params = Trainer(config, sources, sources[-1], tmp_path).run().params
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params))
    lines = read_metrics(tmp_path / "metrics.jsonl")
    assert [line["step"] for line in lines][-1] == 4 and "eval_f_ari" in lines[-1]


def test_no_stage_has_frames_that_no_encoder_takes(data_dir):
    config = make_config(data_dir, model__architecture="pyramid", curriculum__first=("data.options.image_size=10",))
    with pytest.raises(ConfigError, match=r"frames of 10x10 pixels.* multiple of 4"):
        check(config, "train")
