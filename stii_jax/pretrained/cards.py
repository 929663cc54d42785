"""The card of a trained model: its intended use and limits, its provenance, and its scores."""

from typing import Any

from ml_collections import ConfigDict

from stii_jax.config import default_config
from stii_jax.evaluation import novelty
from stii_jax.pretrained.files import SUFFIX, find
from stii_jax.pretrained.trained import Trained, load

_SHOWN = ("ari", "f_ari", "video_ari", "video_f_ari", "fg_miou", "identity_switches", "mask_f_ari", "mse")
_SIZES = (
    "architecture",
    "num_slots",
    "num_refinements",
    "latent_dim",
    "hidden_dim",
    "decoder_channels",
    "refiner_channels",
)


def model_card(name: str) -> str:
    """A model's card as Markdown: the text beside its file, if any, then the facts in the file.

    Raises:
        ModelFileError: there is no such model, or the file is damaged or not a model.
    """
    trained, path = load(name), find(name)
    text = path.with_suffix(".md")
    parts = [
        f"## {path.stem}",
        text.read_text().strip() if text.is_file() else "",
        _facts(trained, path.stat().st_size),
    ]
    for key, title in (("results", "Held-out videos"), ("prediction", "Predicted frames")):
        if key in trained.facts:
            parts.append(_scores(title, trained.facts[key]))
    if reference := novelty.find_reference(trained.facts.get("results", {}).get(novelty.KEY)):
        parts.append(_reconstruction(reference))
    return "\n\n".join(part for part in parts if part)


def _reconstruction(reference: novelty.Reference) -> str:
    typical = reference.typical
    return (
        f"Reconstruction of held-out videos, the median over {reference.num_videos}: relative error "
        f"{typical['relative_error']:.3f}, MSE {typical['mse']:.4f}, log-likelihood {typical['log_likelihood']:.3f} "
        f"nats per pixel. `--mode decompose` warns of a video with a relative error above {reference.limit:.3f}."
    )


def _facts(trained: Trained, size: int) -> str:
    config, facts = trained.config, trained.facts
    options = ", ".join(f"{key}={value}" for key, value in sorted(config.data.options.items()))
    section, sizes = (config.system, ("num_slots",)) if config.system in config else ("model", _SIZES)
    model = ", ".join(f"{key} {config[section][key]}" for key in sizes)
    commit = f"{facts['commit'][:9]}{' with changes' * bool(facts.get('dirty'))}" if facts.get("commit") else "unknown"
    seconds = facts.get("train_seconds")
    rows = {
        "data": f"{config.data.dataset}/{config.data.variant}" + (f" ({options})" if options else ""),
        "system": f"{config.system}; {model}" if model else config.system,
        "evaluated with": ", ".join(f"{key} {value}" for key, value in _evaluation(config).items()) or "as trained",
        "steps, seed": f"{facts['step']}, {facts.get('seed', 'unknown')}",
        **({"started from": _start(facts["init"])} if isinstance(facts.get("init"), dict) else {}),
        **({"motion": _motion(config, facts["motion"])} if isinstance(facts.get("motion"), dict) else {}),
        "hardware": facts.get("hardware", "unknown"),
        "training": "unknown" if seconds is None else f"{seconds / 60:.0f} minutes",
        "commit": commit,
        "versions": ", ".join(f"{key} {value}" for key, value in facts.get("versions", {}).items()),
        "file": f"{size / 1e6:.1f} MB, float16, {SUFFIX[1:]}",
    }
    return "\n".join(["| | |", "| --- | --- |", *(f"| {key} | {value} |" for key, value in rows.items())])


def _motion(config: ConfigDict, facts: dict[str, Any]) -> str:
    errors = [f"{100 * facts[f'{name}_error']:.1f} %" for name in ("motion", "velocity")]
    return (
        f"{config.motion.interaction}, width {config.motion.width}, from {facts['num_videos']} videos; mean position "
        f"error after {facts['horizon']} frames: {errors[0]} of the image side (constant velocity: {errors[1]})"
    )


def _evaluation(config: ConfigDict) -> dict[str, Any]:
    """The inference settings that differ from the default evaluation."""
    usual = default_config().eval
    names = (
        *("num_slots", "slot_cost", "restarts", "reseeds", "reseed_every"),
        *("num_refinements", "schedule", "first_noise", "segmentation", "background"),
    )
    return {name: config.eval[name] for name in names if config.eval[name] != usual[name]}


def _start(init: dict[str, Any]) -> str:
    return f"{init.get('model')}, step {init.get('step')} (parameters {init.get('digest')})"


def _scores(title: str, found: dict[str, Any]) -> str:
    lengths = found["lengths"]
    shown = [name for name in _SHOWN if all(name in scores for scores in lengths)]
    head = (
        f"{title} ({lengths[0]['num_videos']} videos of split `{found['split']}`), mean ± standard error over videos:"
    )
    rows = [f"| {' | '.join(('frames', *shown))} |", f"|{' --- |' * (len(shown) + 1)}"]
    for scores in lengths:
        values = [f"{scores[name]:.4f} ± {scores[name + '_stderr']:.4f}" for name in shown]
        rows.append(f"| {' | '.join((str(scores['num_frames']), *values))} |")
    return "\n".join([head, "", *rows])
