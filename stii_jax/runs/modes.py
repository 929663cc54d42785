"""The command line's modes, each a function of a run or a trained model.

Results are written to the workdir. The `trained` model comes from its checkpoints or from a model file.
"""

import contextlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from stii_jax import pretrained
from stii_jax.config import ConfigError, to_json
from stii_jax.devices.processes import check_shared, is_first, print_on_first, run_on_first
from stii_jax.evaluation import novelty, occlusions, result_files
from stii_jax.evaluation.evaluator import Evaluator
from stii_jax.inference.model import Model
from stii_jax.inference.request import Request
from stii_jax.inference.track_request import TrackRequest
from stii_jax.inference.track_scores import describe_scores, score_folder, score_model
from stii_jax.models.stii import STII
from stii_jax.pretrained.trained import Trained
from stii_jax.runs.initial import Initial, load_initial
from stii_jax.runs.lock import check_writable, has_checkpoint, holds_run, lock_workdir
from stii_jax.runs.provenance import provenance
from stii_jax.runs.settings import check_same_run
from stii_jax.runs.setup import load_dataset, open_stages
from stii_jax.runs.trust import read_object
from stii_jax.storage.files import write_atomic, write_results
from stii_jax.storage.metric_log import MetricWriter
from stii_jax.training.loop import Trainer
from stii_jax.visualization import visualize

_FRAMES_PER_SECOND = 6  # of traversals
_SCORES = ("dataset", "options", "split", "observed_frames", "lengths", novelty.KEY)
"""Keys of the scores that a model file stores."""


def train(config: ConfigDict, workdir: Path, init: str | None = None) -> None:
    """Train to the end, from the newest checkpoint if there is one, or else from the trained model `init`.

    Nothing is written to the workdir until the dataset is open and the models are built.
    """
    run_on_first(lambda: check_writable(workdir))
    sources = open_stages(config)
    trainer = Trainer(config, sources, load_dataset(config, evaluated=True), workdir)
    initial = None
    if init is not None and has_checkpoint(workdir):
        print_on_first(f"{workdir} has a checkpoint: training continues from it, and --init {init} is ignored")
    elif init is not None:
        initial = load_initial(init, trainer.model)
        print_on_first(initial.line)
    with contextlib.ExitStack() as lock:

        def begin():
            lock.enter_context(lock_workdir(workdir))
            _write_settings(config, workdir, initial)

        run_on_first(begin)
        check_shared(workdir / "config.json")
        trainer.run(None if initial is None else initial.params)
        if is_first():
            (workdir / "media").mkdir(exist_ok=True)  # missing without periodic evaluation, which draws pictures
            visualize.plot_learning_curve(workdir / "media" / "curve.png", workdir / "metrics.jsonl")


def _write_settings(config: ConfigDict, workdir: Path, initial: Initial | None) -> None:
    """Write `provenance.json` and, unless the workdir holds a run, `config.json`."""
    if changed := check_same_run(config, workdir):
        print_on_first(
            f"{workdir} has other settings but no checkpoint: training starts anew ({'; '.join(changed[:5])})"
        )
    saved = workdir / "config.json"
    if changed or not saved.exists() or not holds_run(workdir, config.train.checkpoint_every):
        write_atomic(saved, to_json(config).encode())
    path = workdir / "provenance.json"
    record = None if initial is None else initial.record
    if has_checkpoint(workdir):  # its parameters were initialised by an earlier call
        record = read_object(path).get("init")
    write_results(path, provenance() | ({} if record is None else {"init": record}))


def evaluate(config: ConfigDict, workdir: Path, trained: Trained) -> dict[str, Any]:
    """Score a model on held-out videos, write `results.json` and pictures, print the scores, and return them.

    If the evaluation's settings differ from those of the training, the file is `results_LABEL.json`.
    """
    evaluator = Evaluator(config, load_dataset(config, evaluated=True))
    results, pictures = evaluator.final(trained.params)
    label = result_files.label(trained.config, config)
    result_files.write_scores(config, workdir, f"results{label}.json", results, trained.facts)
    result_files.write_pictures(evaluator, workdir, trained.step, pictures, f"{config.eval.split}{label}")
    result_files.print_scores(results["lengths"])
    if line := occlusions.describe(results[occlusions.KEY]):
        print_on_first(line)
    print_on_first(f"scores: {workdir / f'results{label}.json'}, pictures: {workdir / 'media'}")
    return results


def predict(config: ConfigDict, workdir: Path, trained: Trained) -> None:
    """Predict frames after observed ones, score them in `prediction.json`, and draw them."""
    evaluator = Evaluator(config, load_dataset(config, evaluated=True))
    sampled: list[dict[str, Any]] | None = [] if config.eval.futures else None
    scores, pictures = evaluator.forecast(trained.params, sampled)
    observed = config.eval.observed_frames
    label = result_files.label(trained.config, config)
    results = {"observed_frames": observed, "lengths": scores}
    if sampled is not None:
        results["futures"] = {"num_futures": config.eval.futures, "frames": sampled}
    result_files.write_scores(config, workdir, f"prediction{label}.json", results, trained.facts)
    result_files.write_pictures(evaluator, workdir, trained.step, pictures, f"prediction{label}", num_observed=observed)
    print_on_first(f"predicted after {observed} frames:")
    result_files.print_scores(scores)
    if sampled:
        result_files.print_futures(sampled, config.eval.futures)
    print_on_first(f"scores: {workdir / f'prediction{label}.json'}, pictures: {workdir / 'media'}")


def disentangle(config: ConfigDict, workdir: Path, trained: Trained) -> None:
    """Probe the slots' codes for properties of their objects, and draw the scores and traversals of latents.

    The scores are written to `probes.json`.
    """
    # scikit-learn alone takes three seconds to import, and no other mode needs it.
    from stii_jax.analysis.probes import probe
    from stii_jax.analysis.probes_figure import draw_scores
    from stii_jax.analysis.probes_samples import collect
    from stii_jax.analysis.traversal import traverse_held_out
    from stii_jax.analysis.traversal_pictures import draw_traversal, traversal_animation

    settings = config.probe
    evaluator = Evaluator(config, load_dataset(config, evaluated=True))
    try:
        results = probe(collect(evaluator, trained.params, settings.num_videos, settings.num_frames))
        traversals = []
        if isinstance(evaluator.model, STII):  # other models decode no latents
            shown = {"num_frames": settings.num_frames, "num_dims": settings.num_dims, "reach": settings.reach}
            traversals = traverse_held_out(evaluator, trained.params, config.eval.num_pictures, **shown)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    label = result_files.label(trained.config, config)
    result_files.write_scores(config, workdir, f"probes{label}.json", results, trained.facts)
    (workdir / "media").mkdir(exist_ok=True)
    draw_scores(workdir / "media" / f"probes{label}.png", results)
    writer = MetricWriter(workdir, enabled=is_first())
    for number, traversal in enumerate(traversals):
        name = f"traversal{label}_{number}"
        writer.write_images(trained.step, {name: draw_traversal(traversal)})
        writer.write_gif(trained.step, name, traversal_animation(traversal), _FRAMES_PER_SECOND)
    writer.close()
    for representation, of_probes in results["probes"].items():
        for name, scores in of_probes.items():
            print(f"{representation}, {name}: {', '.join(f'{key} {r2:.3f}' for key, r2 in scores['r2'].items())}")
    print(f"R2 on held-out videos: {workdir / f'probes{label}.json'}, pictures: {workdir / 'media'}")


def decompose_video(model: Model, origin: Mapping[str, str], request: Request, facts: Mapping[str, Any]) -> None:
    """Write a model's decomposition of a video; needs no dataset. See `stii_jax.inference.decompose`.

    `decomposition.json` records the model's `origin` and further `facts`.
    """
    from stii_jax.inference.decompose import decompose

    results = decompose(model, request, origin, facts)
    separate = "num_objects" in results and "tiles" not in results
    _warn_of_novelty(results["novelty"], request.input, origin, results["background"], results["is_bright"], separate)
    if results["damage"]:
        print(f"warning: {results['damage']}; the frames before that are decomposed", file=sys.stderr)
    ahead = f" and {results['num_predicted']} predicted" if results["num_predicted"] else ""
    ahead += f", in {results['num_futures']} futures," if request.num_futures else ""
    print(f"{results['num_frames']} frames decomposed{ahead} in {results['seconds']:.0f} s: {request.output}")


def evaluate_tracks(
    model: Model, origin: Mapping[str, str], request: TrackRequest, workdir: Path, facts: Mapping[str, Any]
) -> None:
    """Decompose a recording, score the result against its true tracks, and write the scores to the workdir."""
    from stii_jax.inference.decompose import print_notes

    scores, stream = score_model(model, request)
    print_notes(stream.notes)
    of_model = {"input": str(request.input), "num_slots": model.num_slots, **origin, **facts}
    separate, background = stream.is_numbered and not stream.tiles, stream.video.background
    _warn_of_novelty(stream.compare(), request.input, origin, background, stream.remarks.is_bright, separate)
    if stream.damage:
        print(f"warning: {stream.damage}; the frames before that are scored", file=sys.stderr)
    _write_track_scores(request, workdir, scores | of_model)


def _warn_of_novelty(
    found: Mapping[str, Any],
    video: Path,
    origin: Mapping[str, str],
    background: str,
    is_bright: bool,
    separate: bool,
) -> None:
    """Warn of a video unlike the training videos, unless its objects hardly depend on the model.

    This is so if they are `separate` objects of one view before a removed background.
    """
    if background == "median" and separate:
        return
    if line := novelty.warning(found, str(video), origin.get("model") or origin["workdir"], background, is_bright):
        print(f"warning: {line}", file=sys.stderr)


def evaluate_decomposition(request: TrackRequest, folder: Path) -> None:
    """Score the decomposition in the folder `request.input`, and write the scores to `folder`."""
    _write_track_scores(request, folder, score_folder(request))


def _write_track_scores(request: TrackRequest, folder: Path, scores: Mapping[str, Any]) -> None:
    print("\n".join(describe_scores(scores)))
    path = request.scores_file(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_results(path, scores)
    print(f"scores: {path}")


def held_out(config: ConfigDict, trained: Trained, origin: Mapping[str, str]) -> Any:
    """Statistics of held-out videos (`novelty.summarize`), or None if they are not known."""
    if config.eval.system not in ("", trained.config.system):
        return None  # the stored statistics belong to the system that was trained
    return _measured(trained if "model" in origin else _with_scores(trained, Path(origin["workdir"])))


def export(workdir: Path, trained: Trained, output: Path) -> None:
    """Write a model file, including the model's scores from the workdir. See `stii_jax.pretrained`."""
    scored = _with_scores(trained, workdir)
    pretrained.save(output, scored)
    having = "with scores" if "results" in scored.facts else "without scores"
    if _measured(scored) is None:
        having += "; run --mode evaluate first, and its decompositions will warn of unfamiliar videos"
    print(f"{output}: {output.stat().st_size / 1e6:.1f} MB, step {trained.step}, {having}")


def _measured(trained: Trained) -> Any:
    """The `novelty.summarize` of held-out videos in a model's scores, or None."""
    results = trained.facts.get("results")
    return results.get(novelty.KEY) if isinstance(results, Mapping) else None


def _with_scores(trained: Trained, workdir: Path) -> Trained:
    """Add a model's scores from a workdir to its facts, as `results` and `prediction`.

    Scores that the model already has are kept; only missing ones are added.
    """
    facts = dict(trained.facts)
    for name in ("results", "prediction"):
        found = read_object(workdir / f"{name}.json")
        own = facts.get(name)
        if all(found.get(key) == facts.get(key) for key in ("step", "seed")):
            facts[name] = {key: found[key] for key in _SCORES if key in found} | (own if isinstance(own, dict) else {})
    return trained._replace(facts=facts)
