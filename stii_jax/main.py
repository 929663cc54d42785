"""The command line: trains, evaluates, predicts, takes videos apart.

    python -m stii_jax.main --config quickstart --workdir runs/quickstart
    python -m stii_jax.main --workdir runs/quickstart --mode predict
    python -m stii_jax.main --model quickstart --mode decompose --input video.mp4 --output found

Any setting can be changed: --config.model.num_slots=7. The same command goes on with a run that was stopped at any
moment. README.md tells what is in a workdir, docs/configs.md what can be set.
"""

import sys
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
from absl import app, flags, logging
from ml_collections import ConfigDict

from stii_jax import modes, pretrained
from stii_jax.checkpoint import CheckpointError
from stii_jax.config import ConfigError, config_names, split_overrides
from stii_jax.curriculum import PosteriorCollapse
from stii_jax.data import DataError
from stii_jax.decompose import Request
from stii_jax.distributed import ProcessError, explain, join, joined, leave, say
from stii_jax.doctor import examine
from stii_jax.evaluate import check_predicts
from stii_jax.parallel import DeviceError, keep_compiled, use_all_cores
from stii_jax.preemption import EXIT_CODE, Preempted
from stii_jax.pretrained import ModelFileError
from stii_jax.runs import check, open_config, open_model_config, restore
from stii_jax.train import TrainingError
from stii_jax.trust import check_data_dir, check_links
from stii_jax.writers import LogError

MODES = {
    "train": "trains to the end, from the last checkpoint if there is one, and evaluates",
    "evaluate": "scores held-out videos, and draws some of them",
    "predict": "imagines what comes after the frames seen of held-out videos, scores it and draws it",
    "disentangle": "measures and draws what the latents of a slot tell of its object",
    "decompose": "takes a video file apart: masks, trajectories, an animation",
    "export": "writes the trained model as one small file",
    "doctor": "prints versions, devices, memory and free disk, and what is missing for which feature",
}

MODE = flags.DEFINE_enum("mode", "train", list(MODES), "What to do.")
CONFIG = flags.DEFINE_string(
    "config",
    None,
    "The experiment to train: one of the names below, some with an argument (balls:color), or the path of a .py or "
    ".json file. A .py file is code and is run. It can be left out for a workdir that holds a run.",
)
WORKDIR = flags.DEFINE_string("workdir", None, "The folder of the run: checkpoints, logs, pictures and scores.")
MODEL = flags.DEFINE_string(
    "model",
    None,
    "A trained model, in place of the run in --workdir: one of the names below, or a .safetensors file that --mode "
    "export wrote. With evaluate, predict and disentangle, --workdir is where the results go.",
)
INPUT = flags.DEFINE_string("input", None, "With decompose: the video file, or folder of images, to take apart.")
OUTPUT = flags.DEFINE_string(
    "output", None, "With decompose: the folder of the results. With export: the .safetensors file to write."
)
PREDICT = flags.DEFINE_integer("predict", None, "With decompose: how many frames to imagine after the last one.")
DISTRIBUTED = flags.DEFINE_bool(
    "distributed", False, "Takes the three below from the cluster: Slurm, a TPU pod, Kubernetes or MPI."
)
COORDINATOR = flags.DEFINE_string("coordinator_address", None, "The host:port of process 0.")
NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "How many processes there are.")
PROCESS_ID = flags.DEFINE_integer("process_id", None, "Which one this is, from 0.")

GROUPS = {
    "What to do": (MODE,),
    "With which run or model": (CONFIG, WORKDIR, MODEL),
    "A video to take apart, a model to pass on": (INPUT, OUTPUT, PREDICT),
    "Several processes that train together (see launch/)": (DISTRIBUTED, COORDINATOR, NUM_PROCESSES, PROCESS_ID),
}
"""The flags as `--help` shows them."""

ERRORS = (
    *(ConfigError, DataError, DeviceError, CheckpointError, TrainingError, PosteriorCollapse),
    *(ModelFileError, ProcessError, LogError, OSError),
)
"""What is the user's to mend: shown as one line, without a traceback."""
_OF_A_MODEL = ("evaluate", "predict", "disentangle", "decompose")
_ALONE = ("disentangle", "decompose", "export", "doctor")
_overrides: list[str] = []


def run(
    mode: str,
    config_name: str | None,
    workdir: Path | None,
    overrides: Sequence[str],
    before_jax: Callable[[ConfigDict], None] = lambda _: None,
    request: Request | None = None,
    *,
    model: str | None = None,
    output: Path | None = None,
) -> None:
    """Does what the command line says, but for the doctor; see the module's docstring.

    Args:
        mode: one of `MODES`.
        config_name: see `--config`, like the next ones.
        workdir: only a model's decomposition can do without.
        overrides: settings as `key=value`.
        before_jax: is run before jax looks for devices.
        request: what to decompose, in that mode.
        model: see `--model`.
        output: the file to export to, in that mode.
    """
    check_flags(mode, config_name, workdir, overrides, model)
    if workdir is not None:
        check_links(workdir)
    if model is None:
        assert workdir is not None  # see check_flags
        config = open_config(config_name, workdir, overrides)
    else:
        config = open_model_config(model, workdir, overrides)
    before_jax(config)
    if mode in _ALONE and joined():
        raise ConfigError(f"--mode {mode} is the work of one process: start it without the others")

    def trained() -> pretrained.Trained:
        return restore(config, workdir) if model is None else pretrained.load(model)  # type: ignore[arg-type]

    if mode == "decompose":
        assert request is not None  # see make_request
        if request.num_predicted:
            check_predicts(config)
        origin = {"workdir": str(workdir)} if model is None else {"model": model}
        modes.decompose_video(config, trained(), origin, request)
        return
    assert workdir is not None
    if mode == "export":
        assert output is not None
        modes.export(workdir, trained(), output)
        return
    check(config, mode)
    if config_name is None and model is None:
        check_data_dir(workdir, config.data.data_dir, overrides)
    if mode == "train":
        modes.train(config, workdir)
    if mode in ("train", "evaluate"):
        modes.evaluate(config, workdir, trained())
    if mode == "predict":
        modes.predict(config, workdir, trained())
    if mode == "disentangle":
        modes.disentangle(config, workdir, trained())


def check_flags(
    mode: str, config_name: str | None, workdir: Path | None, overrides: Sequence[str], model: str | None
) -> None:
    """Stops flags that are missing or would do nothing; raises `ConfigError`."""
    if model is not None and mode not in _OF_A_MODEL:
        raise ConfigError(f"--model would do nothing with --mode {mode}: it goes with {', '.join(_OF_A_MODEL)}")
    if model is not None and config_name is not None:
        raise ConfigError("--model has a config of its own: leave out --config, or train it with --workdir")
    if model is not None and mode == "decompose" and workdir is not None:
        raise ConfigError("--workdir would do nothing here: --output is where the results of --model go")
    if mode == "export" and (overrides or config_name):
        raise ConfigError("--mode export writes the model as it was trained: leave out --config and its settings")
    if workdir is None and not (model is not None and mode == "decompose"):
        use = "the folder that the results go to" if model is not None else "the folder of the run"
        hint = "" if mode != "decompose" else f", or --model, a trained one ({', '.join(pretrained.names())})"
        new = "--config quickstart " * (config_name is None and mode == "train")
        raise ConfigError(f"give --workdir, {use}, e.g. {new}--workdir runs/quickstart{hint}; --help tells the rest")


def make_request(mode: str, source: str | None, output: str | None, num_predicted: int | None) -> Request | None:
    """What `--input`, `--output` and `--predict` ask for; None in the modes that decompose nothing.

    Raises:
        ConfigError: one is missing, or does nothing in this mode, or makes no sense.
    """
    if mode == "export" and not output:
        raise ConfigError("give --output, the file to write: --mode export --workdir RUN --output model.safetensors")
    if mode != "decompose":
        values = {"--input": source, "--output": None if mode == "export" else output, "--predict": num_predicted}
        if given := [name for name, value in values.items() if value is not None]:
            raise ConfigError(f"{', '.join(given)} would do nothing: give --mode decompose, or leave it out")
        return None
    if not source or not output:
        missing = "--output, the folder of the results" if source else "--input, a video file"
        raise ConfigError(f"give {missing}: --mode decompose --model quickstart --input video.mp4 --output FOLDER")
    if num_predicted is not None and num_predicted < 0:
        raise ConfigError(f"--predict is {num_predicted}, expected 0 or more frames")
    return Request(Path(source), Path(output), num_predicted or 0)


def use_cores(config: ConfigDict) -> None:
    """Lets jax use the cores of a CPU, as many as share the run's batches."""
    if joined():
        return
    stages = [batch_size for _, batch_size, _ in config.curriculum.stages]
    use_all_cores([config.batch_size, *stages, config.eval.batch_size])


def usage() -> str:
    """What `--help` prints."""
    assert __doc__ is not None
    parts = [__doc__.strip()]
    for title, group in GROUPS.items():
        lines = [f"{title}:", ""]
        for flag in group:
            # absl puts an enum's choices before its help.
            lines += [f"  --{flag.name}", *(_modes() if flag is MODE else _wrapped(flags.FLAGS[flag.name].help or ""))]
        parts.append("\n".join(lines))
    named = {"Configs": config_names(), "Trained models": pretrained.names()}
    parts.append("\n".join(f"{title}: {', '.join(names)}" for title, names in named.items()))
    return "\n\n".join(parts)


def _modes() -> list[str]:
    return [f"      {name:13}{text}{' (the default)' * (name == MODE.default)}" for name, text in MODES.items()]


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, 100, initial_indent=" " * 6, subsequent_indent=" " * 6)


def _parse(argv: Sequence[str]) -> list[str]:
    global _overrides
    try:
        _overrides, rest = split_overrides(argv)
    except ConfigError as error:
        sys.exit(f"error: {error}")
    if {"--help", "-help", "-h"} & set(rest[1:]):
        print(usage())
        sys.exit(0)
    try:
        return flags.FLAGS(rest)
    except flags.Error as error:
        sys.exit(f"error: {error}; --help lists all flags")


def _main(arguments: Sequence[str]) -> None:
    logging.set_verbosity(logging.WARNING)  # libraries tell of every file and missing accelerator otherwise
    mode, workdir, output = MODE.value, WORKDIR.value, OUTPUT.value
    if arguments[1:]:
        sys.exit(f"error: {arguments[1]!r} belongs to no flag: --help lists them")
    if mode == "doctor":
        sys.exit(examine())
    try:
        request = make_request(mode, INPUT.value, output, PREDICT.value)
        join(COORDINATOR.value, NUM_PROCESSES.value, PROCESS_ID.value, detect=DISTRIBUTED.value)
        folder = None if workdir is None else Path(workdir)
        exported = None if output is None else Path(output)
        run(mode, CONFIG.value, folder, _overrides, use_cores, request, model=MODEL.value, output=exported)
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
