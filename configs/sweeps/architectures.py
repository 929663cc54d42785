"""The paper's layers and the pyramid: `python -m stii_jax.sweep --sweep architectures --output runs/arch --seeds 3`.

The sweep runs the quickstart with each architecture for the same number of steps. A third variant gives the paper's
layers a fifth of the steps. At 64x64 this takes about as long as the pyramid, and here 30 % less. Results:
docs/fidelity.md.
"""

from stii_jax.sweep import Sweep

_A_FIFTH = ("train.num_steps=140", "curriculum.stages=((4, 4, 200), (16, 2, 240))", "train.eval_every=580")


def get_sweep() -> Sweep:
    """Return the sweep."""
    return Sweep(
        config="quickstart",
        variants={
            "pyramid": ("model.architecture=pyramid",),
            "paper": ("model.architecture=paper",),
            "paper-same-time": ("model.architecture=paper", *_A_FIFTH),
        },
    )
