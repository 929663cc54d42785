"""Configs of datasets and baselines train, evaluate and predict, on small data in the dataset's real format."""

import json

import pytest
from samples import SAMPLES
from toy import MODEL, RUN, use_toy_model

from stii_jax.config import load_config
from stii_jax.main import run
from stii_jax.report import result_entry

BASELINES = ("balls:mixture,iodine", "balls:binary,rnem", "balls:binary,ddpae")
DATASETS = ("clevrer", "grand_central", "grand_central:static_camera", "shapes", "tabletop", "video_folder")
SMALL = MODEL | RUN | {"train.num_steps": 2, "train.eval_every": 2, "data.num_frames": 2}
SMALL |= {"curriculum.first": (), "curriculum.stages": ()}
SMALL |= {"eval.lengths": (2,), "eval.num_slots": 0, "eval.observed_frames": 1, "eval.predict_frames": 1}
SMALL |= {"optim.warmup_steps": 1, "eval.num_videos": 4, "ddpae.object_size": 4}


@pytest.mark.slow
@pytest.mark.usefixtures("quick_compiles")
@pytest.mark.parametrize("name", [*BASELINES, *DATASETS])
def test_a_few_steps(name, tmp_path, monkeypatch):
    if name in DATASETS:  # their model is STII, which other tests train
        use_toy_model(monkeypatch, few_metrics=False)
    dataset = load_config(name).data.dataset
    _, options, manual_dir = SAMPLES[dataset](tmp_path / "raw")
    settings = SMALL | {f"data.options.{key}": value for key, value in options.items()}
    settings |= {"data.options.image_size": 8, "data.data_dir": tmp_path / "built", "data.manual_dir": manual_dir}
    overrides = [f"{key}={value}" for key, value in settings.items()]
    workdir = tmp_path / "run"
    run("train", name, workdir, overrides)
    results = json.loads((workdir / "results.json").read_text())
    assert results["dataset"].startswith(f"{dataset}/") and results["mse"] > 0
    assert ("f_ari" in results) == (dataset not in ("grand_central", "static_camera"))
    if "iodine" in name:
        run("evaluate", None, workdir, ["eval.system=seq_iodine"])
        assert json.loads((workdir / "results_seq_iodine.json").read_text())["mse"] != results["mse"]
        assert result_entry(workdir, "name")["evaluations"]["seq_iodine"]["system"] == "seq_iodine"
    else:
        run("predict", None, workdir, [])
        assert (workdir / "prediction.json").exists()
