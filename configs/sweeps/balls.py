"""The paper's tables on two cores: `python -m stii_jax.sweep --sweep balls --output runs/paper-balls --seeds 3`.

The sweep trains `balls:mixture`, whose training videos cover all appearances, and the paper's baselines for about the
same time. They are evaluated on the paper's test videos: four balls in colour and in black and white, and for
`balls:mixture` six to eight balls with nine slots. Training has no video with so many balls. R-NEM and DDPAE can only
describe white balls on black, so they are trained and evaluated on these, and predict them.
"""

from collections.abc import Iterator

from stii_jax.sweep import Job, Sweep, Variant

_KINDS = {"binary4": (0, 5), "color678_4colors": (4, 9), "color678_8colors": (8, 9), "binary678": (0, 9)}
_WHITE = ("eval.variant=binary4", "eval.options.num_colors=0")
_IODINE = (
    Job("evaluate", _WHITE),
    Job("evaluate", ("eval.system=seq_iodine",)),
    Job("evaluate", (*_WHITE, "eval.system=seq_iodine", "eval.clamp=10")),
)


def _evaluations() -> Iterator[Job]:
    for variant, (num_colors, num_slots) in _KINDS.items():
        kind = (f"eval.variant={variant}", f"eval.options.num_colors={num_colors}", f"eval.num_slots={num_slots}")
        yield Job("evaluate", kind)


def get_sweep() -> Sweep:
    """Return the sweep."""
    return Sweep(
        config="balls:mixture",
        variants={
            "mixture": Variant(after=tuple(_evaluations())),
            "iodine": Variant(config="balls:mixture,iodine", after=_IODINE),
            "rnem": Variant(config="balls:white,rnem", after=(Job("predict"),)),
            "ddpae": Variant(config="balls:white,ddpae", after=(Job("predict"),)),
        },
    )
