"""Compare likelihoods and curricula: `python -m stii_jax.sweep --sweep likelihood --output runs/likelihood --seeds 3`.

The sweep trains the quickstart's model on single frames. The first variants compare the exact likelihood with softer
ones for 700 steps, on balls with random colours and backgrounds and on white balls on black. The last three train for
1,100 steps on videos of both kinds and others. They use the exact likelihood, a falling temperature, and white balls
first, respectively. Scores are on single held-out frames; for the last three also on white balls.
"""

from stii_jax.sweep import Job, Sweep, Variant

_SINGLE_FRAMES = (
    *("train.num_steps=700", "curriculum.first=()", "curriculum.stages=()", "optim.decay=constant"),
    *("train.eval_every=700", "train.checkpoint_every=700", "eval.lengths=(1,)", "eval.periodic_videos=0"),
    *("eval.segmentation=masks", "eval.first_noise=", "eval.restarts=1"),
)
_WHITE = ("data.options.num_colors=0", "data.options.shuffle_colors=false", "data.options.random_background=false")
_LIKELIHOODS = {
    "proper": (),
    "tau-3": ("model.temperature=3",),
    "tau-10": ("model.temperature=10",),
    "channelwise": ("model.likelihood=channelwise",),
}
_ALL_KINDS = tuple(
    f"data.options.{kind}_share={share}" for kind, share in (("black", 0.2), ("one_color", 0.2), ("white", 0.1))
)
_ON_WHITE = Job("evaluate", ("eval.options.white_share=1.0",))
_CURRICULA = {
    "proper": ("train.num_steps=1100",),
    "annealed": (
        "train.num_steps=500",
        "curriculum.first=('model.temperature=10',)",
        "curriculum.stages=((1, 6, 200, 'model.temperature=3'), (1, 6, 400))",
    ),
    "white-first": (
        "train.num_steps=400",
        "curriculum.first=('model.temperature=10', 'data.options.white_share=1.0')",
        "curriculum.stages=((1, 6, 700),)",
    ),
}


def get_sweep() -> Sweep:
    """Return the sweep."""
    variants = {
        f"{kind}-{name}": Variant((*_SINGLE_FRAMES, *options, *likelihood))
        for kind, options in {"colors": (), "white": _WHITE}.items()
        for name, likelihood in _LIKELIHOODS.items()
    }
    variants |= {
        f"all-kinds-{name}": Variant((*_SINGLE_FRAMES, *_ALL_KINDS, *curriculum), after=(_ON_WHITE,))
        for name, curriculum in _CURRICULA.items()
    }
    return Sweep(config="quickstart", variants=variants)
