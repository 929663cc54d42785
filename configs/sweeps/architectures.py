"""The paper's layers beside the pyramid: `python -m stii_jax.sweep --sweep architectures --output runs/arch --seeds 3`.

The quickstart with each, at equal steps; and the paper's layers with a fifth of the steps, about the pyramid's time.
"""

from stii_jax.sweep import Sweep

_A_FIFTH = ("train.num_steps=140", "curriculum.stages=((4, 4, 200), (16, 2, 240))", "train.eval_every=580")


def get_sweep() -> Sweep:
    """The sweep."""
    return Sweep(
        config="quickstart",
        variants={
            "pyramid": ("model.architecture=pyramid",),
            "paper": ("model.architecture=paper",),
            "paper-same-time": ("model.architecture=paper", *_A_FIFTH),
        },
    )
