"""Which mixture separates what: `python -m stii_jax.sweep --sweep likelihood --output runs/likelihood --seeds 3`.

The quickstart's model with the pyramid's layers on single frames, 700 steps: the likelihood proper and softer ones, on balls that have colours and
backgrounds of their own and on white balls on black. Scores are those of single held-out frames.
"""

from stii_jax.sweep import Sweep

_SINGLE_FRAMES = (
    "model.architecture=pyramid",
    *("train.num_steps=700", "curriculum.first=()", "curriculum.stages=()", "optim.decay=constant"),
    *("train.eval_every=700", "train.checkpoint_every=700", "eval.lengths=(1,)", "eval.periodic_videos=0"),
)
_WHITE = ("data.options.num_colors=0", "data.options.shuffle_colors=false", "data.options.random_background=false")
_MIXTURES = {
    "proper": (),
    "tau-3": ("model.temperature=3",),
    "tau-10": ("model.temperature=10",),
    "variance-0.3": ("model.sigma=0.5477",),
    "variance-0.3-tau-3": ("model.sigma=0.5477", "model.temperature=3"),
    "channelwise": ("model.likelihood=channelwise",),
}


def get_sweep() -> Sweep:
    """The sweep."""
    kinds = {"colors": (), "white": _WHITE}
    variants = {
        f"{kind}-{name}": (*_SINGLE_FRAMES, *options, *mixture)
        for kind, options in kinds.items()
        for name, mixture in _MIXTURES.items()
    }
    return Sweep(config="quickstart", variants=variants)
