"""`python -m stii_jax.main` with the toy model, for tests that start it as a user would, by a script of `launch/`.

The folder `$TOY_ORDER` receives one file per process, with one line per video and batch: the step and a fingerprint.
`$TOY_SLOW_EVALUATION` is the duration of an evaluation batch in seconds. With `$TOY_CLOCK_JUMPS` the clock jumps.
"""

import hashlib
import os
import sys
import time
from pathlib import Path

import pytest
import toy
from absl import app

from stii_jax import main
from stii_jax.data import VideoDataset


def _write_order(folder: Path) -> None:
    """Make every source record its batches."""
    train_batches = VideoDataset.train_batches

    def written(self, *arguments, start_step=0, process_index=0, **settings):
        batches = train_batches(self, *arguments, start_step=start_step, process_index=process_index, **settings)
        with (folder / f"{os.getpid()}.txt").open("a") as file:
            for step, batch in enumerate(batches, start_step):
                for number, video in enumerate(batch["video"]):
                    look = hashlib.sha256(video.tobytes()).hexdigest()[:16]
                    print(step, process_index * len(batch["video"]) + number, look, file=file, flush=True)
                yield batch

    VideoDataset.train_batches = written  # type: ignore[method-assign]


def _slow_down(seconds: float) -> None:
    eval_batches = VideoDataset.eval_batches

    def slow(self, *arguments, **settings):
        for batch in eval_batches(self, *arguments, **settings):
            time.sleep(seconds)
            yield batch

    VideoDataset.eval_batches = slow  # type: ignore[method-assign]


def _let_the_clock_jump() -> None:
    """Move the clock back and forth by up to ten days, every second."""
    now, days = time.time, (0, 5, -5, 1, 10, -10)
    time.time = lambda: now() + 86_400 * days[int(time.monotonic()) % len(days)]


if __name__ == "__main__":
    toy.use_toy_model(pytest.MonkeyPatch())
    if seconds := os.environ.get("TOY_SLOW_EVALUATION"):
        _slow_down(float(seconds))
    if os.environ.get("TOY_CLOCK_JUMPS"):
        _let_the_clock_jump()
    if folder := os.environ.get("TOY_ORDER"):
        _write_order(Path(folder))
    sys.argv[0] = main.__file__
    main.enable_compilation_cache()
    app.run(main._main, flags_parser=main._parse)
