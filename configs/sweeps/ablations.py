"""The paper's ablations and our own choices, on the quickstart's videos: `python -m stii_jax.sweep --sweep ablations`.

Every variant trains with the same steps on the same videos, a third of the quickstart's; it is scored at 10 to 40
frames, and on what it imagines after 20.
"""

from stii_jax.sweep import Job, Sweep

# A frame that starts from the prior is only possible with one.
_ALONE = ("model.conditional_prior=false", "model.conditional_decoder=false", "model.posterior_start=previous")
_STEPS = (
    "train.num_steps=700",
    "curriculum.stages=((4, 4, 400), (10, 2, 400))",
    "train.eval_every=10000",
    "eval.num_videos=60",
)

VARIANTS: dict[str, tuple[str, ...]] = {
    "reference": (),
    "base": ("model.schedule=constant", *_ALONE),
    "grid": _ALONE,
    "grid-prior": ("model.conditional_decoder=false",),
    "grid-decoder": ("model.conditional_prior=false", "model.posterior_start=previous"),
    "clips-of-1": ("train.num_steps=2400", "curriculum.stages=()"),
    "clips-to-4": ("curriculum.stages=((4, 4, 1000),)",),
    "entropy-0.1": ("loss.mask_entropy=0.1",),
    "entropy-1": ("loss.mask_entropy=1",),
    "r-2": ("model.num_refinements=2",),
    "r-4": ("model.num_refinements=4",),
    "r-6": ("model.num_refinements=6",),
    "r-10": ("model.num_refinements=10",),
    "schedule-constant": ("model.schedule=constant",),
    "schedule-provide": ("model.schedule=provide",),
    "start-learned": ("model.posterior_start=learned",),
    "start-previous": ("model.posterior_start=previous",),
    "inputs-attached": ("model.detach_refiner_inputs=false",),
    "cell-stable": ("model.cell=stable",),
    "weights-budget": ("loss.refinement_weights=budget",),
    "kl-3": ("loss.kl=3",),
    "kl-30": ("loss.kl=30",),
}


def get_sweep() -> Sweep:
    """The sweep."""
    variants = {name: (*_STEPS, *changes) for name, changes in VARIANTS.items()}
    return Sweep(config="quickstart", variants=variants, after=(Job("predict"),))
