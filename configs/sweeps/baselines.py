"""STII and the paper's baselines on one small task, two balls at 24x24: `python -m stii_jax.sweep --sweep baselines`.

Each system is trained by `configs/small.py`. Further jobs evaluate:
- predictions, for systems that predict;
- SEQ-IODINE, on the trained IODINE;
- three balls, with an additional slot, after training on two;
- balls that leave and enter the frame;
- probes of STII's latents.

On white balls, STII has a soft likelihood; `stii-white-exact` has the exact one, which fails.
"""

from stii_jax.sweep import Job, Sweep, Variant

PREDICT = Job("predict")
# The balls fill the same share of the box as in training.
MORE_BALLS = Job("evaluate", ("eval.options.num_balls=(3, 3)", "eval.options.box_size=5.0", "eval.num_slots=4"))
# The balls keep their size, but the box is larger than its visible part.
LEAVING = Job("evaluate", ("eval.options.box_size=6.0", "eval.options.margin=1.0"))
SEQUENTIAL = Job("evaluate", ("eval.system=seq_iodine",))
PROBES = Job("disentangle")


def get_sweep() -> Sweep:
    """Return the sweep."""
    return Sweep(
        config="small:stii",
        variants={
            "stii": Variant(after=(PREDICT, MORE_BALLS, LEAVING, PROBES)),
            "iodine": Variant(config="small:iodine", after=(SEQUENTIAL, MORE_BALLS, LEAVING)),
            "rnem": Variant(config="small:rnem", after=(PREDICT, MORE_BALLS, LEAVING)),
            "ddpae": Variant(config="small:ddpae", after=(PREDICT, LEAVING)),
            "stii-white": Variant(config="small:stii,white", after=(PREDICT,)),
            "stii-white-exact": Variant(("model.temperature=1",), config="small:stii,white", after=(PREDICT,)),
        },
    )
