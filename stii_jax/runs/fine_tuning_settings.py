"""Settings that continue the training of a model on one recording. This module needs no JAX."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from stii_jax.config import ConfigError, load_config
from stii_jax.data.errors import DataError
from stii_jax.data.video.view import View
from stii_jax.inference.viewing import Viewing, parse_viewing
from stii_jax.pretrained.files import read_config
from stii_jax.runs.settings import check_same_run, recorded_name
from stii_jax.runs.trust import read_object

_EXAMPLE = "--mode fine_tune --model balls --input video.mp4 --workdir runs/mine"
_TRAINING = (
    *("batch_size=4", "data.num_frames=4", "data.num_threads=1", "data.recolor=False", "train.num_steps=1000"),
    *("curriculum.first=()", "curriculum.stages=((12, 2, 300),)"),
    *("curriculum.patience=0", "curriculum.held_out_patience=200"),
    *("optim.learning_rate=6e-4", "optim.warmup_steps=20", "optim.decay=cosine"),
    *("train.log_every=20", "train.eval_every=100", "train.checkpoint_every=100"),
    *("model.predictor=prior", "eval.predictor=", "eval.split=validation", "eval.variant=", "eval.lengths=(16,)"),
    *("eval.num_videos=20", "eval.periodic_videos=4", "eval.batch_size=2", "eval.num_pictures=2"),
    *("eval.observed_frames=10", "eval.predict_frames=6"),
)
"""The settings of the training, which replace the model's own."""


class FineTuning(NamedTuple):
    """The recording to train on, and how the model sees it."""

    input: Path
    """A video file, or a folder of images."""
    viewing: Viewing = Viewing()
    """The frames that the model sees, and the part of them."""


class Plan(NamedTuple):
    """The settings that depend on the content of the recording."""

    num_slots: int
    """`model.num_slots`."""
    num_used_slots: int
    """`eval.num_slots`."""
    frame_stride: int
    """`data.options.frame_stride`."""
    margins: tuple[int, int, int, int] | None
    """`data.options.crop`: pixels to cut off at the left, top, right and bottom; None keeps the central square."""
    background: str
    """`data.options.background`."""


def make_fine_tuning(mode: str, source: str | None, viewing: Mapping[str, Any], model: str | None) -> FineTuning | None:
    """Make a request from the flags of `--mode fine_tune`; None in other modes.

    Args:
        mode: see `--mode`, like the next ones.
        source: the recording.
        viewing: the flags of `parse_viewing`.
        model: the model to start from.

    Raises:
        ConfigError: a flag is missing or has an invalid value.
        DataError: there is no such recording.
    """
    if mode != "fine_tune":
        return None
    if source is None or model is None:
        missing = "--model, the model to start from" if model is None else "--input, the recording to train on"
        raise ConfigError(f"give {missing}: {_EXAMPLE}")
    if viewing.get("separate") is not None:
        raise ConfigError("--separate would do nothing in training: give it to decompose with the trained model")
    return FineTuning(existing(source), parse_viewing(viewing))


def existing(source: str) -> Path:
    """Return the absolute path of a recording. Raises `DataError` if there is none."""
    path = Path(source).expanduser()
    if not path.exists():
        raise DataError(f"{source} does not exist: give a video file, or a folder of images")
    return path.resolve()


def open_fine_tuning(
    request: FineTuning, model: str, workdir: Path, overrides: Sequence[str], plan: Plan | None = None
) -> ConfigDict:
    """Return the settings of the training: those in the workdir, or else the model's, adapted to the recording.

    Args:
        request: the recording.
        model: see `--model`.
        workdir: the folder of the run.
        overrides: settings as `key=value`, which have priority over the plan.
        plan: settings that depend on the content of the recording, once they are known.

    Raises:
        ConfigError: the model is of a system that cannot be fine-tuned, or an override is wrong, or the workdir holds
            another run.
        ModelFileError: there is no such model.
    """
    saved = workdir / "config.json"
    if plan is None and saved.exists():
        config = load_config(saved)
        trains_on = config.data.options.get("folder", "")
        if trains_on != str(request.input):
            of = f"a training on {trains_on}" if trains_on else "another training"
            raise ConfigError(f"{workdir} holds {of}: give another --workdir for {request.input}")
        started = read_object(workdir / "provenance.json").get("init", {}).get("model")
        if started not in (None, recorded_name(model)):
            raise ConfigError(f"{workdir} holds a training that started from {started}: give that --model, not {model}")
        config = load_config(_see(config, request), overrides)
        check_same_run(config, workdir)
        return config
    from stii_jax.runs.dataset import describe  # imports tensorflow_datasets

    trained = read_config(model)
    if trained.system != "stii":
        raise ConfigError(f"--mode fine_tune needs a model of the system stii, but {model} is {trained.system!r}")
    view = describe(trained).view
    config = load_config(trained, _TRAINING).copy_and_resolve_references()
    config.data.dataset, config.data.variant = "video_folder", "default"
    config.eval.options, config.eval.background = ConfigDict(), ""
    config.data.options = ConfigDict({"folder": str(request.input), "image_size": view.size, "frame_stride": 1})
    shown = trained.eval.background or view.background
    config.data.options.update(gray=view.gray, background="keep" if shown == "auto" else shown, square=view.square)
    if plan is not None:
        config.data.options.background = plan.background
        config.model.num_slots, config.data.options.frame_stride = plan.num_slots, plan.frame_stride
        if plan.margins is not None:
            config.data.options.update(crop=plan.margins, square=False)
        # A fine-tuned model draws the background in detail, so a spare slot gains more likelihood there than
        # `eval.slot_cost`, and splits it.
        follows = load_config(config, overrides).model.num_slots == plan.num_slots
        config.eval.num_slots, config.eval.slot_cost = plan.num_used_slots if follows else 0, 0.0
    return load_config(_see(config, request), overrides)


def _see(config: ConfigDict, request: FineTuning) -> ConfigDict:
    """Return the config with the given flags of the request's `viewing`."""
    config, viewing = config.copy_and_resolve_references(), request.viewing
    given: dict[str, Any] = {name: value for name, value in viewing._asdict().items() if name != "region"}
    if viewing.background == "auto":  # chosen by the plan
        del given["background"]
    if viewing.region is not None:
        given |= {"crop": margins_of(viewing.region, *_size(request)), "square": False}
    config.data.options.update({name: value for name, value in given.items() if value is not None})
    return config


def margins_of(region: tuple[int, int, int, int], width: int, height: int) -> tuple[int, int, int, int]:
    """Return the pixels to cut off at the left, top, right and bottom of a frame, to show a region of it.

    Raises:
        DataError: the region does not fit the frame.
    """
    left, top, right, bottom = View(size=1, region=region).box(height, width)
    return left, top, width - right, height - bottom


def _size(request: FineTuning) -> tuple[int, int]:
    """The width and height of a recording's frames. Raises `DataError` if the first one cannot be read."""
    from stii_jax.data.video.footage import open_footage  # imports PyAV

    first = next(iter(open_footage(request.input, request.viewing.value_range).frames()))
    return first.pixels.shape[1], first.pixels.shape[0]
