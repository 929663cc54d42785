"""The paper's ablations and our own choices, on `small:stii`: `python -m stii_jax.sweep --sweep ablations`.

Every variant trains on the same videos of two balls at 24x24, for the same number of steps. Variants with clips of
another length train for about the same time. Scores are at 10 to 40 frames, and on predictions after frame 20.
"""

from stii_jax.sweep import Job, Sweep

# Frames can start from the prior only if the model has one.
_ALONE = ("model.conditional_prior=false", "model.conditional_decoder=false", "model.posterior_start=previous")
_TO_10 = ("curriculum.stages=((4, 4, 150), (10, 2, 140))",)
_STEPS = ("eval.num_videos=60",)

VARIANTS: dict[str, tuple[str, ...]] = {
    "reference": (),
    "start-learned": ("model.posterior_start=learned",),
    "start-previous": ("model.posterior_start=previous",),
    "forecast": ("loss.observed_fraction=0.75",),
    "inputs-attached": ("model.detach_refiner_inputs=false",),
    "cell-stable": ("model.cell=stable",),
    "bfloat16": ("model.compute_dtype=bfloat16",),
    # The reference's grid with the paper's count of R: no frame has more than R decodes, so no weight r/R exceeds 1.
    "weights-budget": ("loss.refinement_weights=budget", "model.schedule=paper", "model.num_refinements=4"),
    "kl-3": ("loss.kl=3",),
    "kl-30": ("loss.kl=30",),
    "entropy-0.1": ("loss.mask_entropy=0.1",),
    "base": ("model.schedule=constant", *_ALONE),
    "grid": _ALONE,
    "grid-prior": ("model.conditional_decoder=false",),
    "grid-decoder": ("model.conditional_prior=false", "model.posterior_start=previous"),
    "schedule-constant": ("model.schedule=constant",),
    "schedule-provide": ("model.schedule=provide",),
    "clips-of-1": ("train.num_steps=850", "curriculum.stages=()"),
    "clips-to-10": _TO_10,
    "clips-to-10-forecast": (*_TO_10, "loss.observed_fraction=0.7"),
    "r-2": ("model.num_refinements=2",),
    "r-6": ("model.num_refinements=6",),
    "r-10": ("model.num_refinements=10",),
    # Late frames get one refinement. Clips of four have no such frame; clips of eight do.
    "r-6-clips-to-8": ("model.num_refinements=6", "curriculum.stages=((4, 4, 150), (8, 2, 140))"),
}


def get_sweep() -> Sweep:
    """Return the sweep."""
    variants = {name: (*_STEPS, *changes) for name, changes in VARIANTS.items()}
    return Sweep(config="small:stii", variants=variants, after=(Job("predict"),))
