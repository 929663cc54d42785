"""Ablations on four balls: `python -m stii_jax.sweep --sweep ablations_balls --output runs/matters --seeds 3`.

Every variant changes one aspect of a short `balls:mixture`. The network, the data, the order of likelihoods and the
number of slots are those of the shipped model `balls`. Frames stay at half the paper's resolution, 32x32, and clips
have at most four frames. By an estimate, a run takes ten minutes on one core. Scores are on the paper's
videos in colour, at half the resolution and up to 40 frames, with a single start per frame. Further jobs evaluate every
model on white balls, and the reference with other settings of inference.
"""

from stii_jax.sweep import Job, Sweep, Variant

_HALF = ("data.options.image_size=32", "loss.kl=2.5")
_NO_BLACK = "'data.options.black_share=0', 'data.options.white_share=0'"
_SHORT = (
    *("train.num_steps=500", "curriculum.first=('model.temperature=10', 'loss.mask_entropy=0')"),
    f"curriculum.stages=((1, 8, 700, {_NO_BLACK}), (4, 4, 900))",
    *("train.eval_every=10000", "train.checkpoint_every=300", "eval.periodic_videos=0", "eval.num_videos=40"),
    *("eval.batch_size=8", "eval.restarts=1", "eval.reseeds=0", "eval.lengths=(4, 10, 20, 40)", "eval.num_pictures=2"),
)
_WHITE = Job("evaluate", ("eval.variant=binary4", "eval.options.num_colors=0"))
_INFERENCE = (
    ("eval.restarts=16", "eval.reseeds=1"),
    ("eval.schedule=constant",),
    ("eval.num_refinements=6",),
    ("eval.segmentation=masks",),
    ("eval.num_slots=7",),
)
_NO_PAST = ("model.conditional_prior=false", "model.conditional_decoder=false", "model.posterior_start=previous")
_EXACT = "curriculum.first=('loss.mask_entropy=0',)"
_ALL_SOFT = f"curriculum.stages=((1, 8, 700, {_NO_BLACK}, 'model.temperature=10'), (4, 4, 900, 'model.temperature=10'))"

VARIANTS: dict[str, tuple[str, ...]] = {
    "start-learned": ("model.posterior_start=learned",),
    "start-previous": ("model.posterior_start=previous",),
    "no-conditioning": _NO_PAST,
    "schedule-constant": ("model.schedule=constant",),
    "r-2": ("model.num_refinements=2",),
    "r-5": ("model.num_refinements=5",),
    "first-decode-mean": ("model.first_noise=mean",),
    "exact-likelihood-first": (_EXACT,),
    "soft-likelihood-throughout": (_ALL_SOFT,),
    "channelwise-first": ("curriculum.first=('model.likelihood=channelwise', 'loss.mask_entropy=0')",),
    "white-balls-first": (
        "curriculum.first=('model.temperature=10', 'loss.mask_entropy=0', 'data.options.white_share=1.0')",
    ),
    "no-entropy-term": ("loss.mask_entropy=0",),
    "kl-10": ("loss.kl=10",),
    "inputs-attached": ("model.detach_refiner_inputs=false",),
    "cell-stable": ("model.cell=stable",),
    "leave-one-out-renormalized": ("model.leave_one_out_masks=renormalized",),
}


def get_sweep() -> Sweep:
    """Return the sweep."""
    reference = Variant(_HALF + _SHORT, after=(_WHITE, *(Job("evaluate", changes) for changes in _INFERENCE)))
    others = {name: _HALF + _SHORT + changes for name, changes in VARIANTS.items()}
    return Sweep(config="balls:mixture", variants={"reference": reference, **others}, after=(_WHITE,))
