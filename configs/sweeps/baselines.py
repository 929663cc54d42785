"""STII and the paper's baselines on one small task, white balls at 32x32: `python -m stii_jax.sweep --sweep baselines`.

Each system as `configs/small.py` trains it; forecasts of those that predict; SEQ-IODINE on the trained IODINE; more
balls, with more slots, than in training; and balls that leave the frame and enter it.
"""

from stii_jax.sweep import Job, Sweep, Variant

PREDICT = Job("predict")
MORE_BALLS = Job("evaluate", ("eval.options.num_balls=(4, 5)", "eval.num_slots=6"))
# Of the same size, but the box is larger than what is seen of it.
LEAVING = Job("evaluate", ("eval.options.box_size=9.0", "eval.options.margin=1.0"))
SEQUENTIAL = Job("evaluate", ("eval.system=seq_iodine", "eval.clamp=10"))


def get_sweep() -> Sweep:
    """The sweep."""
    return Sweep(
        config="small:stii",
        variants={
            "stii": Variant(after=(PREDICT, MORE_BALLS, LEAVING)),
            "iodine": Variant(config="small:iodine", after=(SEQUENTIAL, MORE_BALLS, LEAVING)),
            "rnem": Variant(config="small:rnem", after=(PREDICT, MORE_BALLS, LEAVING)),
            "ddpae": Variant(config="small:ddpae", after=(PREDICT, LEAVING)),
        },
    )
