"""STII and the paper's baselines on one small task, two balls at 24x24: `python -m stii_jax.sweep --sweep baselines`.

Each system as `configs/small.py` trains it; forecasts of those that predict; SEQ-IODINE on the trained IODINE; three
balls, with a slot more, where training had two; balls that leave the frame and enter it; probes of STII's latents.
"""

from stii_jax.sweep import Job, Sweep, Variant

PREDICT = Job("predict")
# The balls of training have the same share of the box.
MORE_BALLS = Job("evaluate", ("eval.options.num_balls=(3, 3)", "eval.options.box_size=5.0", "eval.num_slots=4"))
# Of the same size, but the box is larger than what is seen of it.
LEAVING = Job("evaluate", ("eval.options.box_size=6.0", "eval.options.margin=1.0"))
SEQUENTIAL = Job("evaluate", ("eval.system=seq_iodine",))
PROBES = Job("disentangle")


def get_sweep() -> Sweep:
    """The sweep."""
    return Sweep(
        config="small:stii",
        variants={
            "stii": Variant(after=(PREDICT, MORE_BALLS, LEAVING, PROBES)),
            "iodine": Variant(config="small:iodine", after=(SEQUENTIAL, MORE_BALLS, LEAVING)),
            "rnem": Variant(config="small:rnem", after=(PREDICT, MORE_BALLS, LEAVING)),
            "ddpae": Variant(config="small:ddpae", after=(PREDICT, LEAVING)),
            "stii-white": Variant(config="small:stii,white", after=(PREDICT,)),
        },
    )
