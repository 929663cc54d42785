"""The command line: train, evaluate, predict, decompose videos.

    python -m stii_jax.main --config quickstart --workdir runs/quickstart
    python -m stii_jax.main --workdir runs/quickstart --mode predict
    python -m stii_jax.main --model quickstart --mode decompose --input video.mp4 --output found
    python -m stii_jax.main --model balls --mode fine_tune --input video.mp4 --workdir runs/mine

Any setting can be overridden, e.g. --config.model.num_slots=7. To resume an interrupted run, repeat its command.
README.md describes the files in a workdir, docs/configs.md every setting. --version prints the version.
"""

import functools
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from absl import app, flags, logging
from ml_collections import ConfigDict

from stii_jax import __version__, pretrained
from stii_jax import command_line as given
from stii_jax.command_line import MODES, usage, viewing_flags
from stii_jax.config import ConfigError, split_overrides
from stii_jax.devices.machine import enable_compilation_cache
from stii_jax.errors import Preempted, UserError, check_platform, exit_now
from stii_jax.inference.request import Request, make_request
from stii_jax.inference.track_request import TrackRequest, make_track_request
from stii_jax.runs.fine_tuning_settings import FineTuning, make_fine_tuning, open_fine_tuning
from stii_jax.runs.settings import check_init, open_config, open_model_config
from stii_jax.runs.trust import check_data_dir, check_links

# Flags and settings are checked without JAX and the libraries on top of it, which take seconds to import. Functions
# such as `run` import those once the checks pass. tests/test_startup.py lists them.


ERRORS = (UserError, OSError)
"""Errors the user can fix, shown as one line without a traceback."""
_OF_A_MODEL = ("fine_tune", "evaluate", "predict", "disentangle", "decompose", "learn_motion", "export")
_ALONE = ("fine_tune", "disentangle", "decompose", "learn_motion", "export", "doctor")
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
    init: str | None = None,
    tracks: TrackRequest | None = None,
    tuning: FineTuning | None = None,
) -> None:
    """Run any mode but the doctor; see the module's docstring.

    Args:
        mode: one of `MODES`.
        config_name: see `--config`, like the next ones.
        workdir: may be None only when decomposing a video with `model`.
        overrides: settings as `key=value`.
        before_jax: called once the settings are checked, before JAX looks for devices.
        request: the video to decompose (mode "decompose").
        model: see `--model`.
        output: the file to write (mode "export").
        init: see `--init`.
        tracks: the tracks to evaluate against, instead of held-out videos.
        tuning: the recording to train on (mode "fine_tune").
    """
    check_flags(mode, config_name, workdir, overrides, model, init)
    if request is not None and request.formats:
        from stii_jax.inference.formats import check_formats

        check_formats(request.formats)
    if workdir is not None:
        check_links(workdir)
    if tuning is not None:
        assert model is not None and workdir is not None  # see make_fine_tuning and check_flags
        config = open_fine_tuning(tuning, model, workdir, overrides)
    elif model is None:
        assert workdir is not None  # see check_flags
        config = open_config(config_name, workdir, overrides)
        if init is not None:
            check_init(init, config, workdir)
    else:
        config = open_model_config(model, workdir, overrides, learns_motion=mode == "learn_motion")
    before_jax(config)

    from stii_jax.devices.processes import is_distributed
    from stii_jax.evaluation.evaluator import check_predicts, check_samples
    from stii_jax.runs import modes, setup
    from stii_jax.runs.loading import as_model

    if (mode in _ALONE or tracks is not None) and is_distributed():
        raise ConfigError(
            f"--mode {mode}{' --tracks' * (tracks is not None)} runs in a single process: start it without the others"
        )

    if tuning is not None:
        from stii_jax.runs.fine_tuning import run_fine_tuning

        assert model is not None and workdir is not None
        run_fine_tuning(tuning, model, workdir, overrides, config)
        return

    def trained() -> pretrained.Trained:
        return setup.restore(config, workdir) if model is None else pretrained.load(model)  # type: ignore[arg-type]

    if mode == "decompose" or tracks is not None:
        if request is not None and request.num_predicted:
            check_predicts(config)
            if request.num_futures:
                check_samples(config, "--futures")
        origin = {"workdir": str(workdir)} if model is None else {"model": model}
        of = trained()
        facts = {"dataset": f"{config.data.dataset}/{config.data.variant}", "step": of.step}
        loaded = as_model(config, of, modes.held_out(config, of, origin))
        if tracks is not None:
            assert workdir is not None  # see check_flags
            modes.evaluate_tracks(loaded, origin, tracks, workdir, facts)
        else:
            assert request is not None  # see make_request
            modes.decompose_video(loaded, origin, request, facts)
        return
    assert workdir is not None
    if mode == "export":
        assert output is not None
        modes.export(workdir, trained(), output)
        return
    setup.check(config, mode)
    if config_name is None and model is None:
        check_data_dir(workdir, config.data.data_dir, overrides)
    if mode == "train":
        modes.train(config, workdir, init)
    if mode in ("train", "evaluate"):
        modes.evaluate(config, workdir, trained())
    if mode == "predict":
        modes.predict(config, workdir, trained())
    if mode == "learn_motion":
        from stii_jax.runs.motion import learn_motion

        assert output is not None  # see make_request
        learn_motion(config, workdir, trained(), output)
    if mode == "disentangle":
        modes.disentangle(config, workdir, trained())


def evaluate_decomposition(tracks: TrackRequest, workdir: Path | None) -> None:
    """Score an existing decomposition without a model; write the scores to its folder, or to `workdir` if given."""
    useless = {"--model": given.MODEL.value, "--config": given.CONFIG.value or _overrides or None}
    useless |= {f"--{name}": value for name, value in viewing_flags().items()}
    if unused := [flag for flag, value in useless.items() if value is not None]:
        raise ConfigError(f"{unused[0]} would do nothing (--input {tracks.input} is already decomposed): leave it out")
    print(f"stii_jax {__version__}: scoring {tracks.input}", flush=True)

    from stii_jax.runs import modes

    modes.evaluate_decomposition(tracks, workdir or tracks.input)


def check_dataset(config: ConfigDict) -> None:
    """Raise `DataError` for an unknown dataset, variant or option. Needs no JAX."""
    from stii_jax.runs.dataset import describe

    for evaluated in (False, True):
        describe(config, evaluated=evaluated)


def check_flags(
    mode: str,
    config_name: str | None,
    workdir: Path | None,
    overrides: Sequence[str],
    model: str | None,
    init: str | None = None,
) -> None:
    """Raise `ConfigError` if a flag is missing or would do nothing."""
    if init is not None and mode != "train":
        raise ConfigError(f"--init would do nothing with --mode {mode}: use it with --mode train")
    if model is not None and mode not in _OF_A_MODEL:
        raise ConfigError(f"--model would do nothing with --mode {mode}: use it with {', '.join(_OF_A_MODEL)}")
    if model is not None and config_name is not None:
        raise ConfigError("--model has its own config: leave out --config, or train that config in a --workdir")
    if model is not None and mode == "decompose" and workdir is not None:
        raise ConfigError("--workdir would do nothing here: results of --model go to --output")
    if mode == "export" and (overrides or config_name):
        raise ConfigError("--mode export writes the model as it was trained: leave out --config and its settings")
    if workdir is None and not (model is not None and mode == "decompose"):
        of_run = model is None or mode == "fine_tune"
        use = "the folder of the run" if of_run else "the folder for the results"
        use = "the folder of the model's results" if model is not None and mode == "export" else use
        hint = "" if mode != "decompose" else f", or --model, a trained one ({', '.join(pretrained.names())})"
        new = "--config quickstart " * (config_name is None and mode == "train")
        raise ConfigError(f"give --workdir, {use}, e.g. {new}--workdir runs/quickstart{hint}; see --help")


def first_line(
    mode: str, config_name: str | None = None, workdir: str | None = None, model: str | None = None, source: str = ""
) -> str:
    """The line printed before the libraries load, such as "stii_jax 0.1.0: training quickstart in runs/quickstart"."""
    what = "" if mode == "doctor" else f" {model or config_name or 'the run'}"
    with_what = f" {source} with{what}" if source else what
    return f"stii_jax {__version__}: {MODES[mode].doing}{with_what}" + (f" in {workdir}" if workdir else "")


def _parse(argv: Sequence[str]) -> list[str]:
    global _overrides
    try:
        _overrides, rest = split_overrides(argv)
    except ConfigError as error:
        sys.exit(f"error: {error}")
    help_text = functools.partial(usage, __doc__ or "")
    for asked, answer in ((("--help", "-help", "-h"), help_text), (("--version",), lambda: f"stii_jax {__version__}")):
        if set(asked) & set(rest[1:]):
            print(answer())
            sys.exit(0)
    try:
        return flags.FLAGS(rest)
    except flags.Error as error:
        sys.exit(f"error: {error}; --help lists all flags")


def _before_jax(config: ConfigDict) -> None:
    """Announce the mode, check the dataset, and set up processes and cores before JAX looks for devices."""
    source = given.INPUT.value or ""
    line = first_line(given.MODE.value, given.CONFIG.value, given.WORKDIR.value, given.MODEL.value, source)
    if not (given.DISTRIBUTED.value or given.PROCESS_ID.value):  # this is process 0
        print(line, flush=True)
    if given.MODE.value != "export":
        check_dataset(config)

    from stii_jax.devices import parallel, processes

    processes.initialize(
        given.COORDINATOR.value, given.NUM_PROCESSES.value, given.PROCESS_ID.value, detect=given.DISTRIBUTED.value
    )
    if given.DISTRIBUTED.value:
        processes.print_on_first(line)
    if not processes.is_distributed():
        stages = [batch_size for _, batch_size, *_ in config.curriculum.stages]
        parallel.use_all_cores([config.batch_size, *stages, config.eval.batch_size])


def _main(arguments: Sequence[str]) -> None:
    logging.set_verbosity(logging.WARNING)  # libraries otherwise report every file and missing accelerator
    mode, workdir, output = given.MODE.value, given.WORKDIR.value, given.OUTPUT.value
    if arguments[1:]:
        sys.exit(f"error: {arguments[1]!r} does not belong to any flag: --help lists them")
    try:
        check_platform()
        if mode == "doctor":
            print(first_line(mode), flush=True)
            from stii_jax.runs.doctor import examine

            sys.exit(examine())
        options = {"object_clips": given.CLIPS.value, "overwrite": given.OVERWRITE.value}
        source, viewing = given.INPUT.value, viewing_flags()
        tracks = make_track_request(mode, given.TRACKS.value, given.TRACK_OPTIONS.value, source, viewing)
        tuning = make_fine_tuning(mode, source, viewing, given.MODEL.value)
        if tracks is not None or tuning is not None:
            source, viewing = None, {}
        request = make_request(
            mode,
            source,
            output,
            given.PREDICT.value,
            given.FORMATS.value,
            **options,
            viewing=viewing,
            num_futures=given.FUTURES.value,
        )
        folder = None if workdir is None else Path(workdir)
        if tracks is not None and tracks.is_decomposed:
            evaluate_decomposition(tracks, folder)
            return
        exported = None if output is None else Path(output)
        name, init = given.MODEL.value, given.INIT.value
        run(
            mode,
            given.CONFIG.value,
            folder,
            _overrides,
            _before_jax,
            request,
            model=name,
            output=exported,
            init=init,
            tracks=tracks,
            tuning=tuning,
        )
    except Preempted as stop:
        from stii_jax.devices.processes import print_on_first

        print_on_first(str(stop))
        exit_now(stop.EXIT_CODE)
    except KeyboardInterrupt:
        exit_now(128 + signal.SIGINT, "" if mode == "train" else "stopped by Ctrl-C")
    except ERRORS as error:
        exit_now(1, f"error: {error}")
    except RuntimeError as error:
        from stii_jax.devices.processes import explain

        if not (line := explain(error)):
            raise
        exit_now(1, f"error: {line}")


if __name__ == "__main__":
    enable_compilation_cache()
    app.run(_main, flags_parser=_parse)
