"""Continue the training of a model on one recording, and compare the result with the model it started from."""

from collections.abc import Sequence
from pathlib import Path

from ml_collections import ConfigDict

from stii_jax.config import ConfigError
from stii_jax.data.video.levels import Range
from stii_jax.evaluation.evaluator import Evaluator
from stii_jax.inference.model import Model
from stii_jax.inference.viewing import Viewing, check_viewing
from stii_jax.runs import modes, setup
from stii_jax.runs.fine_tuning_settings import FineTuning, existing, open_fine_tuning
from stii_jax.runs.loading import load_model
from stii_jax.runs.lock import has_checkpoint
from stii_jax.runs.recording_plan import MOST_SLOTS, Findings, examine, make_plan
from stii_jax.runs.trust import check_links
from stii_jax.storage.files import write_results

RECORD = "fine_tuning.json"
"""The file in the workdir that compares the model with the one it started from."""


def fine_tune(
    model: str | Path,
    video: str | Path,
    workdir: str | Path,
    overrides: Sequence[str] = (),
    *,
    value_range: Range | None = None,
    region: tuple[int, int, int, int] | None = None,
    frame_stride: int | None = None,
    background: str | None = None,
    tile: int | None = None,
) -> Model:
    """Train a model further on one recording, or resume. The same as `--mode fine_tune`.

    Args:
        model: a model that comes with the package, such as "balls", or a `.safetensors` file.
        video: a video file, or a folder of images.
        workdir: the folder of the run.
        overrides: `key=value`, such as `train.num_steps=100`.
        value_range: see `Model.decompose`, like the next ones.
        region: None: the square around all motion, if the camera stands still.
        frame_stride: None: by the speed of the objects.
        background: None: as in the model's training.
        tile: None: one view of the frame. Otherwise, the trained model decomposes recordings in such tiles.

    Raises:
        ConfigError: an argument is invalid, the recording is too short or shows no object, or the folder holds another
            run.
        DataError: the recording cannot be read.
        ModelFileError: there is no such model.
    """
    viewing = check_viewing(Viewing(value_range, region, frame_stride, background, tile))
    request, folder = FineTuning(existing(str(video)), viewing), Path(workdir)
    if folder.exists():
        check_links(folder)
    config = open_fine_tuning(request, str(model), folder, overrides)
    run_fine_tuning(request, str(model), folder, overrides, config)
    return load_model(folder)


def run_fine_tuning(
    request: FineTuning, model: str, workdir: Path, overrides: Sequence[str], config: ConfigDict
) -> None:
    """Train to the end, or resume; then compare the errors on the recording's end.

    Args:
        request: the recording.
        model: see `--model`.
        workdir: the folder of the run.
        overrides: settings as `key=value`, which have priority over the plan.
        config: `open_fine_tuning` without a plan.

    Raises:
        ConfigError: a setting is wrong, or the recording is too short.
        DataError: the recording cannot be read.
    """
    if not (workdir / "config.json").exists():
        print(f"looking at {request.input} with {model}", flush=True)
        quick = ["eval.restarts=4", "eval.reseed_every=4"] if config.eval.reseeds else []
        looking = load_model(model, [*quick, f"eval.slot_cost={config.eval.slot_cost}"])
        found = examine(looking, request.input, request.viewing)
        if not found.num_objects:
            raise ConfigError(
                f"{model} finds no object in the first frames of {request.input}, so there is nothing to start from: "
                "give --region or --background=median, or train anew with --config video_folder"
            )
        plan = make_plan(found, config.eval.num_slots or MOST_SLOTS)
        config = open_fine_tuning(request, model, workdir, overrides, plan)
        print(describe(found, config), flush=True)
    setup.check(config, "train")
    modes.train(config, workdir, None if has_checkpoint(workdir) else model)
    scores = modes.evaluate(config, workdir, setup.restore(config, workdir))
    print(compare(request, config, workdir, model, scores["mse"]), flush=True)


def compare(request: FineTuning, config: ConfigDict, workdir: Path, model: str, after: float) -> str:
    """Score the model that training started from on the same held-out frames. Write both errors, and describe them.

    `after` is the squared error after training.
    """
    trained, _ = setup.load_trained(model)
    params = {name: value for name, value in trained.params.items() if name != "motion"}
    evaluator = Evaluator(config, setup.load_dataset(config, evaluated=True))
    before = evaluator.final(params)[0]["mse"]
    write_results(
        workdir / RECORD, {"model": model, "input": str(request.input), "mse_before": before, "mse_after": after}
    )
    use = f"--workdir {workdir}" if after < before else f"--model {model}"
    verdict = "" if after < before else f": this training did not help, so {model} is the better choice"
    return (
        f"squared error on the held-out end of the recording: {before:.4f} before, {after:.4f} after{verdict}\n"
        f"next: python -m stii_jax.main --mode decompose {use} --input {request.input} --output found"
    )


def describe(found: Findings, config: ConfigDict) -> str:
    """Return the findings and the chosen settings in one line."""
    options = config.data.options
    speed = f", moving by {100 * found.speed:.0f} % of their width per frame" if found.speed == found.speed else ""
    region = found.region and ",".join(map(str, found.region))
    tile = options.get("tile")
    whole = "the frame" if tile else "the central square"
    part = (f"tiles of {tile} pixels in " if tile else "") + (f"--region={region}" if region else whole)
    return (
        f"up to {found.num_objects} object{'s' * (found.num_objects != 1)} in the first frames{speed}: training with "
        f"{config.model.num_slots} slots on every {_ordinal(options.frame_stride)}frame of {part}"
    )


def _ordinal(stride: int) -> str:
    return "" if stride == 1 else {2: "2nd ", 3: "3rd "}.get(stride, f"{stride}th ")
