"""Trains, evaluates, predicts, decomposes: `python -m stii_jax.main --config NAME --workdir FOLDER [--mode MODE]`.

Any setting can be changed on the command line: `--config.model.num_slots=7`. The same command resumes a run that was
stopped at any moment. See README.md for the files of a workdir.
"""

import contextlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
from absl import app, flags, logging
from ml_collections import ConfigDict

from stii_jax import outcome, visualize
from stii_jax.checkpoint import CheckpointError, restore_params
from stii_jax.config import ConfigError, differences, load_config, split_overrides, to_json
from stii_jax.curriculum import PosteriorCollapse
from stii_jax.data import DataError, Source, open_dataset, resolve_config
from stii_jax.data.options import VideoConfig
from stii_jax.decompose import Request, decompose
from stii_jax.distributed import (
    ProcessError,
    check_shared,
    explain,
    first_does,
    is_first,
    join,
    joined,
    leave,
    say,
)
from stii_jax.evaluate import (
    Evaluator,
    check_evaluation,
    check_forecast,
    check_predicts,
    make_model,
    model_settings,
)
from stii_jax.models.stii import STII
from stii_jax.parallel import DeviceError, keep_compiled, use_all_cores
from stii_jax.preemption import EXIT_CODE, Preempted
from stii_jax.probes import probe
from stii_jax.probes_figure import draw_scores
from stii_jax.probes_samples import collect
from stii_jax.provenance import provenance
from stii_jax.train import Trainer, TrainingError, check_training
from stii_jax.traversal import traverse_held_out
from stii_jax.traversal_pictures import draw_traversal, traversal_animation
from stii_jax.trust import check_data_dir, check_links
from stii_jax.types import Params
from stii_jax.workdir import held
from stii_jax.writers import LogError, MetricWriter, write_atomic, write_results

CONFIG = flags.DEFINE_string("config", None, "A name as listed in configs/ (with :argument), or a .py or .json file.")
WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run: checkpoints, logs, pictures, results.")
MODE = flags.DEFINE_enum("mode", "train", ["train", "evaluate", "predict", "disentangle", "decompose"], "What to do.")
INPUT = flags.DEFINE_string("input", None, "With --mode decompose: a video file, or a folder of images.")
OUTPUT = flags.DEFINE_string("output", None, "With --mode decompose: the folder of the results.")
PREDICT = flags.DEFINE_integer("predict", None, "With --mode decompose: how many frames to imagine after the last one.")
COORDINATOR = flags.DEFINE_string("coordinator_address", None, "Of a run of several processes: host:port of process 0.")
NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "Of a run of several processes: how many they are.")
PROCESS_ID = flags.DEFINE_integer("process_id", None, "Of a run of several processes: which one this is, from 0.")
DISTRIBUTED = flags.DEFINE_bool("distributed", False, "Take those from the cluster: Slurm, TPU pod, Kubernetes, MPI.")

ERRORS = (
    *(ConfigError, DataError, DeviceError, CheckpointError, TrainingError, PosteriorCollapse),
    *(ProcessError, LogError, OSError),
)
"""What is the user's to mend: shown as one line, without a traceback."""
NOT_OF_THE_RUN = (
    "probe",
    "train.num_steps",
    "train.log_every",
    "train.eval_every",
    "train.checkpoint_every",
    "eval",
    "data.data_dir",
    "data.manual_dir",
    "data.num_threads",
    "train.parallel",
    "train.accumulation",
)
"""Settings that may differ from those that a workdir was begun with.

With other devices, `train.parallel` or `train.accumulation` a run goes on with the same videos and noise; sums of
another order round differently, so it is no longer the same bit for bit.
"""

_ALONE = ("disentangle", "decompose")
_FRAMES_PER_SECOND = 6  # of traversals
_overrides: list[str] = []


def run(
    mode: str,
    config_name: str | None,
    workdir: Path,
    overrides: Sequence[str],
    before_jax: Callable[[ConfigDict], None] = lambda _: None,
    request: Request | None = None,
) -> None:
    """Does what the command line says; see the module's docstring.

    `before_jax` runs before jax looks for devices. `request` is what to decompose, in that mode.
    """
    check_links(workdir)
    config = open_config(config_name, workdir, overrides)
    before_jax(config)
    if mode in _ALONE and joined():
        raise ConfigError(f"--mode {mode} is the work of one process: start it without the others")
    if mode == "decompose":
        assert request is not None  # see make_request
        decompose_video(config, workdir, request)
        return
    check(config, mode)
    if config_name is None:
        check_data_dir(workdir, config.data.data_dir, overrides)
    if mode == "train":
        train(config, workdir)
    if mode in ("train", "evaluate"):
        evaluate(config, workdir)
    if mode == "predict":
        predict(config, workdir)
    if mode == "disentangle":
        disentangle(config, workdir)


def make_request(mode: str, source: str | None, output: str | None, num_predicted: int | None) -> Request | None:
    """What `--input`, `--output` and `--predict` ask for; None in the modes that have no use for them.

    Raises:
        ConfigError: one is missing, or does nothing in this mode, or makes no sense.
    """
    if mode != "decompose":
        values = {"--input": source, "--output": output, "--predict": num_predicted}
        if given := [name for name, value in values.items() if value is not None]:
            raise ConfigError(f"{', '.join(given)} would do nothing: give --mode decompose, or leave it out")
        return None
    if not source or not output:
        missing = "--output, the folder of the results" if source else "--input, a video file"
        raise ConfigError(f"give {missing}: --mode decompose --workdir RUN --input video.mp4 --output FOLDER")
    if num_predicted is not None and num_predicted < 0:
        raise ConfigError(f"--predict is {num_predicted}, expected 0 or more frames")
    return Request(Path(source), Path(output), num_predicted or 0)


def use_cores(config: ConfigDict) -> None:
    """Lets jax use the cores of a CPU, as many as share the run's batches."""
    if joined():
        return
    stages = [batch_size for _, batch_size, _ in config.curriculum.stages]
    use_all_cores([config.batch_size, *stages, config.eval.batch_size])


def open_config(name: str | None, workdir: Path, overrides: Sequence[str]) -> ConfigDict:
    """The config given, which must agree with the workdir's, or the workdir's own.

    Raises:
        ConfigError: neither is there, or they disagree in what a checkpoint depends on.
    """
    saved_path = workdir / "config.json"
    saved = load_config(saved_path) if saved_path.exists() else None
    if name is None and saved is None:
        raise ConfigError(f"no --config given, and no run in {workdir}: give --config, e.g. --config quickstart")
    config = load_config(name or saved_path, overrides)
    if saved is not None and (changed := differences(saved, config, ignore=NOT_OF_THE_RUN)):
        raise ConfigError(
            f"{workdir} holds a run with other settings ({'; '.join(changed[:5])}): give those, or another --workdir"
        )
    return config


def check(config: ConfigDict, mode: str) -> None:
    """Stops what cannot work before a dataset is built, a model compiled or a file written.

    Raises:
        ConfigError: settings do not fit the dataset or one another.
        DataError: there is no such dataset.
        DeviceError: the devices cannot share a batch.
    """
    trained, evaluated = describe(config), describe(config, evaluated=True)
    if mode == "train":
        check_training(config, trained)
    check_evaluation(config, evaluated)
    if mode == "predict":
        check_forecast(config, evaluated)
    if trained.image_size != evaluated.image_size:
        raise ConfigError(
            f"config.eval.variant is {config.eval.variant!r}, with frames of {evaluated.image_size} pixels, but the "
            f"model is for {trained.image_size}: change --config.eval.variant or its options"
        )


def describe(config: ConfigDict, *, evaluated: bool = False) -> VideoConfig:
    """What the dataset is that the config trains on, or evaluates on, without its files."""
    return resolve_config(*_dataset(config, evaluated))


def open_source(config: ConfigDict, *, evaluated: bool = False) -> Source:
    """The dataset that the config trains on, or evaluates on, built if it is not there."""
    data = config.data
    folders = (data.data_dir, data.manual_dir)
    return open_dataset(*_dataset(config, evaluated), *folders, num_threads=data.num_threads)


def _dataset(config: ConfigDict, evaluated: bool) -> tuple[str, str, dict[str, Any]]:
    """Name, variant and options."""
    data, other = config.data, config.eval
    if not evaluated:
        return data.dataset, data.variant, data.options.to_dict()
    return data.dataset, other.variant or data.variant, data.options.to_dict() | other.options.to_dict()


def train(config: ConfigDict, workdir: Path) -> None:
    """Trains to the end, from the newest checkpoint if there is one."""
    saved = workdir / "config.json"
    with contextlib.ExitStack() as lock:

        def begin():
            lock.enter_context(held(workdir))
            if not saved.exists():
                write_atomic(saved, to_json(config).encode())
            write_results(workdir / "provenance.json", provenance())

        first_does(begin)
        check_shared(saved)
        source = open_source(config)
        Trainer(config, source, open_source(config, evaluated=True), workdir).run()
        if is_first():
            (workdir / "media").mkdir(exist_ok=True)  # nothing is drawn before where there is no periodic evaluation
            visualize.curve(workdir / "media" / "curve.png", workdir / "metrics.jsonl")


def evaluate(config: ConfigDict, workdir: Path) -> None:
    """Scores the newest checkpoint on held-out videos, writes `results.json` and pictures, prints the scores.

    With other videos, slots or system than those that the run was begun with, it is `results_LABEL.json`.
    """
    evaluator, params, step = _open_run(config, workdir)
    results, pictures = evaluator.final(params)
    label = outcome.label(config, workdir)
    outcome.report(config, workdir, f"results{label}.json", results, step)
    outcome.draw(evaluator, workdir, step, pictures, f"{config.eval.split}{label}")
    outcome.print_scores(results["lengths"])
    say(f"scores: {workdir / f'results{label}.json'}, pictures: {workdir / 'media'}")


def predict(config: ConfigDict, workdir: Path) -> None:
    """Imagines frames after observed ones, scores them against the true future in `prediction.json`, draws them."""
    evaluator, params, step = _open_run(config, workdir)
    scores, pictures = evaluator.forecast(params)
    observed = config.eval.observed_frames
    label = outcome.label(config, workdir)
    outcome.report(config, workdir, f"prediction{label}.json", {"observed_frames": observed, "lengths": scores}, step)
    outcome.draw(evaluator, workdir, step, pictures, f"prediction{label}", num_observed=observed)
    say(f"predicted after {observed} frames:")
    outcome.print_scores(scores)
    say(f"scores: {workdir / f'prediction{label}.json'}, pictures: {workdir / 'media'}")


def disentangle(config: ConfigDict, workdir: Path) -> None:
    """Scores what slots' codes tell of their objects in `probes.json`, draws that and traversals of latents."""
    settings = config.probe
    evaluator, params, step = _open_run(config, workdir)
    try:
        results = probe(collect(evaluator, params, settings.num_videos, settings.num_frames))
        traversals = []
        if isinstance(evaluator.model, STII):  # others decode no latents
            shown = {"num_frames": settings.num_frames, "num_dims": settings.num_dims, "reach": settings.reach}
            traversals = traverse_held_out(evaluator, params, config.eval.num_pictures, **shown)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    label = outcome.label(config, workdir)
    outcome.report(config, workdir, f"probes{label}.json", results, step)
    (workdir / "media").mkdir(exist_ok=True)
    draw_scores(workdir / "media" / f"probes{label}.png", results)
    writer = MetricWriter(workdir, enabled=is_first())
    for number, traversal in enumerate(traversals):
        name = f"traversal{label}_{number}"
        writer.write_images(step, {name: draw_traversal(traversal)})
        writer.write_gif(step, name, traversal_animation(traversal), _FRAMES_PER_SECOND)
    writer.close()
    for representation, of_probes in results["probes"].items():
        for name, scores in of_probes.items():
            print(f"{representation}, {name}: {', '.join(f'{key} {r2:.3f}' for key, r2 in scores['r2'].items())}")
    print(f"R2 on held-out videos: {workdir / f'probes{label}.json'}, pictures: {workdir / 'media'}")


def decompose_video(config: ConfigDict, workdir: Path, request: Request) -> None:
    """Writes what the newest checkpoint makes of a video; needs no dataset. See `stii_jax.decompose`."""
    if request.num_predicted:
        check_predicts(config)
    dataset = describe(config)
    params, step = _restore(config, workdir)
    model = make_model(config, dataset.image_size, config.eval.num_slots, config.eval.system)
    facts = {"dataset": f"{config.data.dataset}/{config.data.variant}", "workdir": str(workdir), "step": step}
    results = decompose(model, params, dataset, request, facts)
    if results["damage"]:
        print(f"warning: {results['damage']}; what comes before is decomposed", file=sys.stderr)
    ahead = f" and {results['num_predicted']} predicted" if results["num_predicted"] else ""
    print(f"{results['num_frames']} frames decomposed{ahead} in {results['seconds']:.0f} s: {request.output}")


def _restore(config: ConfigDict, workdir: Path) -> tuple[Params, int]:
    params, meta = restore_params(workdir / "checkpoints")
    if type(meta.get("model")) is not dict or type(meta.get("step")) is not int:
        raise CheckpointError(f"the checkpoints in {workdir} do not say what they are of: use another --workdir")
    if changed := differences({"model": meta["model"]}, {"model": model_settings(config)}):
        raise ConfigError(f"the checkpoints in {workdir} are of another model: {'; '.join(changed[:5])}")
    return params, meta["step"]


def _open_run(config: ConfigDict, workdir: Path) -> tuple[Evaluator, Params, int]:
    params, step = _restore(config, workdir)
    return Evaluator(config, open_source(config, evaluated=True)), params, step


def _parse(argv: Sequence[str]) -> list[str]:
    global _overrides
    try:
        _overrides, rest = split_overrides(argv)
    except ConfigError as error:
        sys.exit(f"error: {error}")
    return flags.FLAGS(rest)


def _main(_: Sequence[str]) -> None:
    logging.set_verbosity(logging.WARNING)  # libraries tell of every file and missing accelerator otherwise
    if WORKDIR.value is None:
        sys.exit("error: give --workdir, the folder of the run, e.g. --workdir runs/quickstart")
    try:
        request = make_request(MODE.value, INPUT.value, OUTPUT.value, PREDICT.value)
        join(COORDINATOR.value, NUM_PROCESSES.value, PROCESS_ID.value, detect=DISTRIBUTED.value)
        run(MODE.value, CONFIG.value, Path(WORKDIR.value), _overrides, use_cores, request)
    except Preempted as stop:
        say(str(stop))
        leave(EXIT_CODE)
    except ERRORS as error:
        leave(1, f"error: {error}")
    except jax.errors.JaxRuntimeError as error:
        if not joined():
            raise
        leave(1, f"error: {explain(error)}")


if __name__ == "__main__":
    keep_compiled()
    app.run(_main, flags_parser=_parse)
