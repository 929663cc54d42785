"""Tests of `--mode fine_tune`: the settings chosen for a recording, and a training from a model file."""

import json
import math

import jax
import numpy as np
import pytest
from PIL import Image
from toy import make_config

import stii_jax
from stii_jax import pretrained
from stii_jax.config import ConfigError, load_config
from stii_jax.data.errors import DataError
from stii_jax.inference.viewing import Viewing
from stii_jax.main import run
from stii_jax.models import registry
from stii_jax.runs import recording_plan
from stii_jax.runs.fine_tuning_settings import FineTuning, Plan, make_fine_tuning, margins_of, open_fine_tuning
from stii_jax.runs.recording_plan import LAG, Findings, enclosing_region, make_plan, measure
from stii_jax.visualization.regions import Region

TRAINING = [
    *("train.num_steps=2", "curriculum.stages=((6, 4, 2),)", "data.num_frames=2", "batch_size=4"),
    *("train.log_every=2", "train.eval_every=4", "train.checkpoint_every=2", "optim.warmup_steps=1"),
    *("eval.num_videos=2", "eval.periodic_videos=1", "eval.num_pictures=1", "eval.batch_size=4"),
]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model file, its parameters untrained."""
    config = make_config("/nowhere", model__predictor="prior")
    params = registry.make_model(config, 8).init(jax.random.key(0))
    path = tmp_path_factory.mktemp("model") / "toy.safetensors"
    pretrained.save(path, pretrained.Trained(config, params, {"step": 3, "seed": 0, "commit": None}))
    return path


@pytest.fixture(scope="module")
def header(tmp_path_factory):
    """A model file for settings only, whose parameters do not matter."""
    return save_header(tmp_path_factory.mktemp("header") / "toy.safetensors", model__predictor="prior")


def save_header(path, **changes):
    """Write a model file with the settings of a toy model, and a meaningless parameter."""
    facts = {"step": 3, "seed": 0, "commit": None}
    pretrained.save(path, pretrained.Trained(make_config("/nowhere", **changes), {"w": np.zeros(2, np.float32)}, facts))
    return path


@pytest.fixture
def recording(tmp_path):
    """A folder of 48 images of 20x12 pixels, in which a white square moves on black."""
    folder = tmp_path / "recording"
    folder.mkdir()
    for number in range(48):
        frame = np.zeros((12, 20, 3), np.uint8)
        frame[4:8, number % 16 : number % 16 + 4] = 255
        Image.fromarray(frame).save(folder / f"{number:03}.png")
    return folder


def region(x, y, diameter):
    area = math.pi * diameter**2 / 4
    return Region(1, x, y, area, x, y, x, y, 1.0)


def test_speed_is_in_diameters_per_frame_and_the_background_does_not_count():
    frames = [{0: region(5.0 * t, 0, 30), 2: region(0, 0.6 * t, 12)} for t in range(20)]
    frames[4][3] = region(0, 0, 9)
    count, speed = measure(frames, background=0)
    assert count == 2 and speed == pytest.approx(0.05)
    assert measure(frames[:LAG], background=0)[0] == 2 and math.isnan(measure(frames[:LAG], background=0)[1])
    assert measure([{}], background=0)[0] == 0


def test_objects_are_counted_in_each_tile():
    """Tiles overlap, so an object may count in several of them."""
    tiles = [(0, 0, 30, 30), (20, 0, 50, 30), (40, 0, 70, 30)]
    frames = [{1: region(5, 9, 4), 2: region(25, 9, 4), 3: region(45, 9, 4), 4: region(65, 9, 4), 0: region(30, 9, 4)}]
    assert measure(frames, 0, tiles)[0] == 2 and measure(frames, 0)[0] == 4


@pytest.mark.parametrize(
    ("box", "margin", "expected"),
    [
        ((40, 30, 60, 50), 10.0, (35, 25, 30, 30)),
        ((0, 0, 20, 10), 4.0, (0, 0, 24, 24)),
        ((150, 80, 200, 100), 10.0, (140, 40, 60, 60)),
        ((60, 10, 140, 90), 10.0, None),  # the central square of 100 pixels shows this, hardly larger
        ((0, 0, 200, 50), math.nan, (0, 0, 200, 100)),  # no square fits
        ((20, 0, 110, 90), 0.0, (20, 0, 90, 90)),  # large, but not within the central square
    ],
)
def test_the_region_is_the_square_around_all_motion(box, margin, expected):
    found = enclosing_region(box, margin, width=200, height=100)
    assert found == expected
    if found is not None:
        left, top, right, bottom = margins_of(found, 200, 100)
        assert (left + found[2] + right, top + found[3] + bottom) == (200, 100)


@pytest.mark.parametrize(
    ("objects", "speed", "frames", "expected"),
    [
        (2, 0.06, 2_000, (4, 3, 1)),
        (2, 0.02, 2_000, (4, 3, 3)),
        (2, 0.001, 9_000, (4, 3, 8)),
        (2, 0.001, 1_300, (4, 3, 3)),  # 400 frames must remain
        (1, math.nan, 2_000, (3, 2, 1)),
        (1, 0.2, 0, (3, 2, 1)),
        (9, 0.2, 100, (7, 7, 1)),
    ],
)
def test_the_plan_follows_from_the_number_and_speed_of_objects(objects, speed, frames, expected):
    plan = make_plan(Findings((64, 48), frames, objects, speed, None, "bright"), most_slots=7)
    assert plan[:3] == expected and plan.margins is None and plan.background == "bright"
    region = make_plan(Findings((64, 48), frames, objects, speed, (4, 8, 20, 20), "keep"), 7).margins
    assert region == (4, 8, 40, 20)


def test_given_flags_and_settings_have_priority_over_the_plan(header, recording, tmp_path):
    plan = Plan(5, 4, 3, (1, 1, 1, 1), "bright")
    request = FineTuning(recording, Viewing(region=(2, 1, 10, 10), background="median", frame_stride=2))
    config = open_fine_tuning(request, str(header), tmp_path / "run", ["model.num_slots=4"], plan)
    options = config.data.options
    assert config.model.num_slots == 4 and config.data.dataset == "video_folder" and options.image_size == 8
    assert (options.crop, options.square, options.frame_stride) == ((2, 1, 8, 1), False, 2)
    assert options.background == "median" and options.folder == str(recording)
    planned = open_fine_tuning(FineTuning(recording), str(header), tmp_path / "run", [], plan)
    assert planned.model.num_slots == 5 and planned.data.options.crop == (1, 1, 1, 1)
    assert (planned.eval.num_slots, planned.eval.slot_cost) == (4, 0) and config.eval.num_slots == 0
    for viewing in (Viewing(), Viewing(background="auto")):
        config = open_fine_tuning(FineTuning(recording, viewing), str(header), tmp_path / "run", [], plan)
        assert config.data.options.background == "bright"
    chosen = open_fine_tuning(FineTuning(recording), str(header), tmp_path / "run", ["eval.num_slots=2"], plan)
    assert chosen.eval.num_slots == 2 and chosen.model.num_slots == 5
    with pytest.raises(DataError, match=r"frames are 20x12 pixels: the view from .* does not fit"):
        open_fine_tuning(request._replace(viewing=Viewing(region=(0, 0, 30, 10))), str(header), tmp_path, [], plan)


def test_the_tuned_model_sees_what_the_first_one_chose(recording, tmp_path):
    chooses = str(save_header(tmp_path / "chooses.safetensors", model__predictor="prior", eval__background="auto"))
    for plan, seen in ((None, "keep"), (Plan(5, 4, 3, None, "median"), "median")):
        config = open_fine_tuning(FineTuning(recording), chooses, tmp_path / "run", [], plan)
        assert (config.data.options.background, config.eval.background) == (seen, "")


@pytest.mark.slow
def test_training_from_a_model_compares_both_and_resumes(model, recording, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(recording_plan, "measure", lambda *_: (2, 0.1))
    workdir, given = tmp_path / "run", [*TRAINING, f"data.data_dir={tmp_path / 'data'}"]
    request = FineTuning(recording)
    run("fine_tune", None, workdir, given, model=str(model), tuning=request)
    out = capsys.readouterr().out
    assert "up to 2 objects in the first frames, moving by 10 % of their width per frame" in out
    assert "training with 3 slots" not in out and "training with 4 slots on every frame of --region=" in out
    assert "next: python -m stii_jax.main --mode decompose" in out
    record = json.loads((workdir / "fine_tuning.json").read_text())
    scores = json.loads((workdir / "results.json").read_text())
    assert record["mse_after"] == scores["mse"] and record["mse_before"] > 0 and record["input"] == str(recording)
    assert load_config(workdir / "config.json").model.num_slots == 4
    monkeypatch.setattr(recording_plan, "measure", lambda *_: pytest.fail("planned again"))
    trained = stii_jax.fine_tune(model, recording, workdir, given)
    assert "Resuming from the checkpoint of step 4" in capsys.readouterr().out
    assert trained.facts["step"] == 4 and trained.frame_stride == 1 and not trained.view.square
    other = model.with_name("other.safetensors")
    other.write_bytes(model.read_bytes())
    with pytest.raises(ConfigError, match=r"started from toy.safetensors: give that --model, not .*other"):
        run("fine_tune", None, workdir, given, model=str(other), tuning=request)
    with pytest.raises(ConfigError, match=r"holds a training on .*recording: give another --workdir"):
        run("fine_tune", None, workdir, given, model=str(model), tuning=FineTuning(tmp_path / "other.mp4"))
    with pytest.raises(ConfigError, match=r"holds a run with other settings \(data\.options\.frame_stride"):
        other = FineTuning(recording, Viewing(frame_stride=7))
        run("fine_tune", None, workdir, given, model=str(model), tuning=other)


@pytest.mark.slow
def test_training_in_tiles_decomposes_in_tiles(model, recording, tmp_path, monkeypatch, capsys):
    counted = []
    monkeypatch.setattr(recording_plan, "measure", lambda *args: counted.append(args[2]) or (2, 0.1))
    workdir, given = tmp_path / "run", [*TRAINING, f"data.data_dir={tmp_path / 'data'}"]
    trained = stii_jax.fine_tune(str(model), recording, workdir, given, tile=12)
    assert "4 slots on every frame of tiles of 12 pixels in the frame" in capsys.readouterr().out
    assert counted == [[(0, 0, 12, 12), (8, 0, 20, 12)]] == [trained.stream(recording).tiles]
    assert load_config(workdir / "config.json").data.options.tile == 12
    assert trained.stream(recording, tile=8).tiles != trained.stream(recording).tiles
    with pytest.raises(DataError, match="frames cannot be predicted in tiles"):
        trained.stream(recording, num_predicted=2)
    with pytest.raises(ConfigError, match=r"holds a run with other settings \(data\.options\.tile"):
        stii_jax.fine_tune(str(model), recording, workdir, given, tile=10)


@pytest.mark.slow
def test_a_recording_without_objects_is_refused_before_anything_is_written(model, recording, tmp_path, monkeypatch):
    monkeypatch.setattr(recording_plan, "measure", lambda *_: (0, math.nan))
    with pytest.raises(ConfigError, match=r"finds no object in the first frames of .*recording"):
        run("fine_tune", None, tmp_path / "run", TRAINING, model=str(model), tuning=FineTuning(recording))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("source", "model", "viewing", "message"),
    [
        (None, "balls", {}, "give --input, the recording to train on"),
        ("LICENSE", None, {}, "give --model, the model to start from"),
        ("LICENSE", "balls", {"tile": 0}, "--tile is 0, expected the side of a square in pixels"),
        ("LICENSE", "balls", {"frame_stride": 0}, "--frame_stride is 0, expected 1 or more"),
    ],
)
def test_flags_that_are_missing_or_wrong(source, model, viewing, message):
    with pytest.raises(ConfigError, match=message):
        make_fine_tuning("fine_tune", source, viewing, model)
    assert make_fine_tuning("train", source, viewing, model) is None


def test_a_recording_that_does_not_exist():
    with pytest.raises(DataError, match=r"no.mp4 does not exist"):
        make_fine_tuning("fine_tune", "no.mp4", {}, "balls")


def test_a_model_of_another_system_is_refused(tmp_path, recording):
    path = save_header(tmp_path / "rnem.safetensors", system="rnem")
    with pytest.raises(ConfigError, match=r"needs a model of the system stii, but .* is 'rnem'"):
        open_fine_tuning(FineTuning(recording), str(path), tmp_path / "run", [])
