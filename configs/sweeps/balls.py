"""The paper's tables on two cores: `python -m stii_jax.sweep --sweep balls --output runs/paper-balls --seeds 3`.

The sweep trains `balls:mixture`, whose training videos cover all appearances. It is evaluated on the paper's test
videos: four balls in colour and in black and white, and six to eight balls with nine slots. Training has no video with
so many balls.
"""

from collections.abc import Iterator

from stii_jax.sweep import Job, Sweep, Variant

_KINDS = {"binary4": (0, 5), "color678_4colors": (4, 9), "color678_8colors": (8, 9), "binary678": (0, 9)}


def _evaluations() -> Iterator[Job]:
    for variant, (num_colors, num_slots) in _KINDS.items():
        kind = (f"eval.variant={variant}", f"eval.options.num_colors={num_colors}", f"eval.num_slots={num_slots}")
        yield Job("evaluate", kind)


def get_sweep() -> Sweep:
    """Return the sweep."""
    return Sweep(config="balls:mixture", variants={"mixture": Variant(after=tuple(_evaluations()))})
