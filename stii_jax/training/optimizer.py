"""The optimiser: Adam (paper appendix C) with warm-up and decay. The authors' program clips the gradient's norm."""

import optax


def make_schedule(learning_rate: float, warmup_steps: int, decay: str, num_steps: int) -> optax.Schedule:
    """Return a schedule: linear warm-up from 0, then constant or a half cosine down to 0 at `num_steps`."""
    rest = max(num_steps - warmup_steps, 1)
    after = {
        "constant": optax.constant_schedule(learning_rate),
        "cosine": optax.cosine_decay_schedule(learning_rate, rest),
    }[decay]
    return optax.join_schedules(
        [optax.linear_schedule(0.0, learning_rate, max(warmup_steps, 1)), after], [warmup_steps]
    )


def make_optimizer(
    *, name: str, learning_rate: float, warmup_steps: int, decay: str, clip_norm: float, num_steps: int
) -> optax.GradientTransformation:
    """Return the optimiser `name`, "adam" or "sgd", from the settings of `config.optim`.

    `num_steps` is the number of steps of the whole run.
    """
    schedule = make_schedule(learning_rate, warmup_steps, decay, num_steps)
    update = {"adam": optax.scale_by_adam, "sgd": optax.identity}[name]
    return optax.chain(optax.clip_by_global_norm(clip_norm), update(), optax.scale_by_learning_rate(schedule))
