"""Execute the documentation's commands at toy size, as a user would, one after the other in one folder.

Overrides appended to a command shrink it, because the last value of a setting counts. Commands are executed in this
process, so that programs are compiled once. A run or model file that a command needs is made first, by the
documentation's own command for it. The first run of each system trains the real model, except R-NEM and DDPAE. Later
runs only build the real model and train the toy model, because the real one takes long to trace.
"""

import json
import shlex
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import as_main
import jax
import numpy as np
import pytest
from absl.testing import flagsaver
from pages import ROOT, Command
from PIL import Image
from samples import SAMPLES
from toy import MODEL, RUN, ToyModel, save_run, use_toy_model

from stii_jax import main as stii_main
from stii_jax.benchmark import sweep as benchmark_sweep
from stii_jax.benchmark.points import Machine
from stii_jax.config import load_config, split_overrides
from stii_jax.data.options import GeneratedConfig
from stii_jax.evaluation import metrics
from stii_jax.models.registry import make_model
from stii_jax.pretrained import Trained
from stii_jax.report.entries import SCORE_KEYS
from stii_jax.runs import modes
from stii_jax.runs.setup import describe
from stii_jax.sweep import runner

FEW = {"num_frames": 6, "num_train": 16, "num_validation": 8, "num_test": 12}
SMALL = (
    MODEL
    | RUN
    | {
        "curriculum.first": (),
        "curriculum.stages": (),
        "train.num_steps": 2,
        "train.eval_every": 2,
        "data.num_frames": 2,
    }
)
SMALL |= {"eval.lengths": (2,), "eval.num_slots": 0, "optim.warmup_steps": 1, "ddpae.object_size": 4}
SMALL |= {"train.accumulation": 1, "data.options.image_size": 8, "train.parallel": "pmap"}
EVALUATION = {key: value for key, value in RUN.items() if key.startswith("eval.")}
EVALUATION |= {"eval.lengths": (2,), "eval.num_videos": 4, "eval.observed_frames": 1, "eval.predict_frames": 1}
SMALL |= EVALUATION
MOTION = {"motion.num_videos": 4, "motion.num_frames": 7, "motion.horizon": 1, "motion.num_steps": 2}
MOTION |= {"motion.batch_size": 2, "eval.restarts": 1}
FINE_TUNING = {"train.num_steps": 2, "train.log_every": 2, "train.eval_every": 2, "train.checkpoint_every": 2}
FINE_TUNING |= {"curriculum.stages": (), "optim.warmup_steps": 1, "data.num_frames": 2, "eval.restarts": 1}
FINE_TUNING |= {key: value for key, value in EVALUATION.items() if key != "eval.chunk_frames"}
PROBES = {"probe.num_videos": 12, "probe.num_frames": 2, "eval.num_videos": 12, "eval.batch_size": 4}

PLACES = {"SEED": "0", "WORKDIR": "runs/quickstart", "RUN": "runs/quickstart", "NAME": "mine", "DIR": "runs/dir"}
"""Placeholders that the reader replaces."""


class Workshop:
    """A folder in which the commands are executed, with the result of each."""

    def __init__(self, folder: Path, known: Mapping[Command, str], patch: pytest.MonkeyPatch):
        self.folder, self._known, self._patch = folder, known, patch
        self._outcomes: dict[Command, BaseException | None] = {}
        self._samples: dict[str, tuple] = {}
        self._systems = {"rnem", "ddpae"}  # tests/test_configs_run.py trains their real models, which takes minutes
        self._toys: set[str | None] = set()
        """Workdirs and files of the toy model."""
        self._runs: dict[str, str] = {}
        self._benchmarked: set[tuple[str, ...]] = set()
        few = {name: metric for name, metric in metrics.METRICS.items() if name in SCORE_KEYS}
        patch.setattr(metrics, "METRICS", few)  # matching takes long to compile
        patch.chdir(folder)
        patch.setenv("STII_DATA_DIR", str(folder / "data"))
        patch.setenv("JAX_NUM_CPU_DEVICES", "4")
        patch.setattr(stii_main, "exit_now", _exit_now)
        patch.setattr("stii_jax.analysis.probes_samples.MIN_IOU", 0.0)  # a model of two steps finds no objects
        patch.setattr(runner.Processes, "run", self._run_in_process)
        patch.setattr(benchmark_sweep, "measure", _measured)
        patch.setattr(benchmark_sweep, "describe_machine", lambda: Machine("cpu", 2, "a CPU, 2 cores", "abc"))
        (folder / "README.md").write_text((ROOT / "README.md").read_text())
        (folder / "results").mkdir()
        for path in (*(ROOT / "results").glob("*.json"), ROOT / "results" / "README.md"):
            (folder / "results" / path.name).write_bytes(path.read_bytes())
        self._make_videos()

    def run(self, command: Command) -> None:
        """Execute a command after its prerequisites, unless it was executed before."""
        if command not in self._outcomes:
            for needed in self.needs(command):
                self.run(needed)
            try:
                self._make_room(command)
                RUNNERS.get(command.module, _run_module)(self, self.placed(command))
                self._outcomes[command] = None
            except BaseException as error:
                self._outcomes[command] = error
        if (error := self._outcomes[command]) is not None:
            raise AssertionError(f"{command.text}: {type(error).__name__}: {error}") from error

    def needs(self, command: Command) -> list[Command]:
        """Return the documentation's commands that make this command's inputs."""
        read = [command.value(flag) for flag in ("--runs", "--html", "--add", "--model", "--input")]
        if command.value("--config") is None:
            read.append(command.value("--workdir"))
        read = [PLACES.get(path, path) for path in read if path is not None]
        own_first = sorted(self._known, key=lambda other: self._known[other] != self._known.get(command))
        makers = [next((one for one in own_first if one != command and path in _made_by(one)), None) for path in read]
        return [maker for maker in makers if maker is not None]

    def _make_room(self, command: Command) -> None:
        """Move aside another page's run, which belongs to another reader, from the workdir of a new run."""
        workdir, page = command.value("--workdir"), self._known.get(command, "")
        if command.value("--config") is None or workdir is None:
            return
        if self._runs.get(workdir, page) != page and Path(workdir).exists():
            Path(workdir).rename(f"{workdir}-of-{self._runs[workdir].replace('/', '-')}")
            self._toys.discard(workdir)
        self._runs[workdir] = page

    def placed(self, command: Command) -> Command:
        """Fill in the reader's placeholders, and replace paths on the documented machine by paths in this folder."""
        return command._replace(arguments=tuple(map(self._place, command.arguments)))

    def _place(self, argument: str) -> str:
        head, equals, value = argument.rpartition("=")
        value = PLACES.get(value, value)
        if value.startswith(("/my/", "/shared/")):
            value = str(self.folder / value[1:])
        return f"{head}{equals}{value}"

    def sample(self, dataset: str) -> tuple:
        """Write a small instance of a dataset in its real format, once."""
        if dataset not in self._samples:
            self._samples[dataset] = SAMPLES[dataset](self.folder / "raw" / dataset)
        return self._samples[dataset]

    def shrunk(self, arguments: Iterable[str]) -> list[str]:
        """Return arguments of `stii_jax.main` with overrides that make the command fast."""
        arguments = list(arguments)
        command = Command("stii_jax.main", tuple(arguments))
        mode, name = command.value("--mode") or "train", command.value("--config")
        settings: dict = {}
        if "--help" in arguments:
            return arguments
        if mode == "train":
            settings = SMALL | self._small_data(load_config(name, split_overrides(arguments)[0]))
        elif mode == "disentangle":
            settings = EVALUATION | PROBES
        elif mode == "learn_motion":
            settings = dict(MOTION)
        elif mode == "fine_tune":
            settings = dict(FINE_TUNING)
        elif mode == "decompose":
            settings = {"eval.restarts": 1}
        elif mode in ("evaluate", "predict") and not command.value("--tracks"):
            settings = dict(EVALUATION)
        if command.value("--config.eval.system") == "seq_iodine" and mode == "evaluate":
            settings["eval.chunk_frames"] = 2
        return arguments + [f"--config.{key}={value}" for key, value in settings.items()]

    def _small_data(self, config) -> dict:
        """Return overrides for a dataset of a few videos."""
        dataset = config.data.dataset
        if isinstance(describe(config), GeneratedConfig):
            return {f"data.options.{key}": value for key, value in FEW.items()}
        _, options, manual_dir = self.sample(dataset)
        settings = {f"data.options.{key}": value for key, value in options.items() if key != "image_size"}
        return settings | ({"data.manual_dir": manual_dir} if manual_dir else {})

    def call_main(self, arguments: Iterable[str]) -> None:
        """Run `python -m stii_jax.main` quickly in this process."""
        command = Command("stii_jax.main", tuple(arguments))
        workdir, name = command.value("--workdir"), command.value("--config")
        if name is not None:
            config = load_config(name, split_overrides(command.arguments)[0])  # unchanged
            make_model(config, describe(config).image_size)
            if config.system in self._systems:
                self._toys.add(workdir)
            self._systems.add(config.system)
        if command.value("--init") is not None:  # toy models start from a toy model, which a shipped one is not
            self._toys.add(workdir)
            command = command._replace(arguments=tuple(self._from_toy(command.arguments)))
        with flagsaver.flagsaver(), pytest.MonkeyPatch.context() as patch:
            if {workdir, command.value("--model")} & self._toys:
                self._toys |= {command.value("--output")} - {None}
                use_toy_model(patch, few_metrics=False)
                patch.setattr(modes, "STII", Trained)  # prevents a search for latents in the toy model
            try:
                stii_main._main(stii_main._parse(["main", *self.shrunk(command.arguments)])[:1])
            except SystemExit as stop:
                if stop.code not in (None, 0):
                    raise AssertionError(stop.code) from stop

    def _from_toy(self, arguments: Iterable[str]) -> list[str]:
        """Replace the value of `--init` by the run of a toy model."""
        if not (teacher := self.folder / "teacher").exists():
            params = ToyModel(SMALL["data.options.image_size"]).init(jax.random.key(0))
            save_run(teacher, params, model__architecture="pyramid")  # like the quickstart's
        before = ["", *arguments]
        return [str(teacher) if last == "--init" else argument for last, argument in zip(before, arguments)]

    def benchmark_once(self, arguments: list[str]) -> bool:
        """True if the shrunk command differs from all earlier ones."""
        overrides, others = split_overrides(arguments)
        last = dict(override.split("=", 1) for override in overrides)
        key = (*others, *(f"{name}={value}" for name, value in sorted(last.items())))
        new = key not in self._benchmarked
        self._benchmarked.add(key)
        return new

    def _run_in_process(self, command, log: Path) -> int:
        """Replace `Processes.run` of a sweep."""
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text(shlex.join(command))
        self.call_main(command[command.index("stii_jax.main") + 1 :])
        return 0

    def _make_videos(self) -> None:
        _, options, _ = self.sample("video_folder")
        video = next(Path(options["folder"]).glob("*.mp4"))
        (self.folder / "video.mp4").write_bytes(video.read_bytes())
        frames = [Image.fromarray(np.full((32, 32, 3), level, np.uint8)) for level in (10, 90, 200)]
        frames[0].save(self.folder / "video.gif", save_all=True, append_images=frames[1:])
        (self.folder / "tracks.csv").write_text("frame,object,x,y\n0,0,9,9\n0,1,20,20\n1,0,9,10\n1,1,21,20\n")
        (self.folder / "docs").mkdir()
        for path in (ROOT / "docs").glob("*.gif"):
            (self.folder / "docs" / path.name).write_bytes(path.read_bytes())
        (self.folder / "my").mkdir()
        (self.folder / "my" / "videos").symlink_to(options["folder"])


def _made_by(command: Command) -> set[str]:
    """Return the paths that a command creates."""
    made = {command.value("--output")}
    reads_workdir = command.value("--mode") == "export"
    if not reads_workdir and (command.value("--config") is not None or command.value("--model") is not None):
        made.add(command.value("--workdir"))
    return {path for path in made if path is not None}


def _run_main(workshop: Workshop, command: Command) -> None:
    mode = command.value("--mode") or "train"
    workshop.call_main(command.arguments)
    if "--help" in command.arguments:
        return
    workdir, output = command.value("--workdir"), command.value("--output")
    if command.value("--tracks"):
        folder = Path(workdir or command.value("--input"))
        assert json.loads(next(folder.glob("track_scores*.json")).read_text())["num_points"] == 4
        return
    left = {
        "train": lambda: Path(workdir, "results.json"),
        "fine_tune": lambda: Path(workdir, "fine_tuning.json"),
        "evaluate": lambda: next(Path(workdir).glob("results*.json")),
        "predict": lambda: next(Path(workdir).glob("prediction*.json")),
        "disentangle": lambda: next(Path(workdir).glob("probes*.json")),
        "decompose": lambda: Path(output, "decomposition.json"),
        "export": lambda: Path(output),
        "learn_motion": lambda: Path(output),
    }
    assert mode not in left or left[mode]().is_file()


def _run_sweep(workshop: Workshop, command: Command) -> None:
    """Run one seed of two variants. The last ones have fewer further jobs than the first ones."""
    from stii_jax.sweep import main
    from stii_jax.sweep.plan import load_sweep

    arguments = list(command.arguments)
    if command.value("--only") is None:
        arguments += ["--only", *list(load_sweep(command.value("--sweep"))[1].variants)[-2:]]
    assert main([*arguments, "--list"]) == 0  # also unchanged
    assert main([*arguments, "--seeds", "1", "--workers", "1"]) == 0


def _run_benchmark(workshop: Workshop, command: Command) -> None:
    from stii_jax.benchmark import main

    arguments = list(command.arguments)
    steps = command.value("--steps")
    if "--sweep" not in arguments:
        overrides = split_overrides(arguments)[0]
        load_config(command.value("--config"), overrides)
        arguments += [f"--config.{key}={value}" for key, value in SMALL.items()]
        arguments += ["--config.batch_size=4", "--steps", "0" if steps == "0" else "1"]
        arguments += [f"--config.data.options.{key}={value}" for key, value in FEW.items()]
    if workshop.benchmark_once(arguments):
        main(arguments)


def _run_build(workshop: Workshop, command: Command) -> None:
    from stii_jax.data.build import main

    arguments = list(command.arguments)
    if "--options" not in arguments:
        arguments += ["--options", json.dumps(FEW)]
    main(arguments)


def _run_simulate(workshop: Workshop, command: Command) -> None:
    from stii_jax.data.pipeline.simulate import main

    main([*command.arguments, "--shards", "3", "--videos", "64", "--hosts", "4", "--seconds", "0.05"])


def _run_comparison(_: Workshop, command: Command) -> None:
    """Use the small model, which other commands have compiled, and tune on three frames."""
    from stii_jax.comparison import main

    arguments = ["quickstart" if argument == "balls" else argument for argument in command.arguments]
    main([*arguments, "--tune_frames", "3"])
    assert Path(command.value("--output")).with_suffix(".md").is_file()


def _run_report(workshop: Workshop, command: Command) -> None:
    from stii_jax.report import main

    assert main(list(command.arguments)) == 0
    if output := command.value("--output"):
        assert Path(output).exists()


def _run_module(_: Workshop | None, command: Command) -> None:
    """Run any other module of the package unchanged."""
    as_main.run(command.module, *command.arguments)


def _measured(point, steps, machine) -> dict:
    """Return invented costs for a benchmark point; tests/benchmark/test_benchmark_sweep.py measures real ones."""
    frames, batch = point.values["frames"], point.values["batch"]
    costs = {"step_seconds": 0.1 * frames, "seconds_per_cell": 0.01, "compile_seconds": 1.0, "batch_size": batch}
    memory = {"temporary_bytes_per_device": 1e6 * frames, "peak_memory_bytes": 5e8}
    return {"cells_per_step": frames * batch, **costs, **memory}


def _exit_now(code: int, message: str = "") -> None:
    raise SystemExit(message or code)


def mentioned(command: Command) -> None:
    """Execute a command that a text mentions without arguments; one that needs some prints its usage."""
    if command.module not in RUNNERS:
        _run_module(None, command)
        return
    with pytest.raises(SystemExit) as stop:
        as_main.run(command.module, "--help")
    assert stop.value.code in (None, 0)


RUNNERS: dict[str, Callable[[Workshop, Command], None]] = {
    "stii_jax.main": _run_main,
    "stii_jax.sweep": _run_sweep,
    "stii_jax.benchmark": _run_benchmark,
    "stii_jax.data.build": _run_build,
    "stii_jax.data.pipeline.simulate": _run_simulate,
    "stii_jax.comparison": _run_comparison,
    "stii_jax.report": _run_report,
}
