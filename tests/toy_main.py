"""`python -m stii_jax.main` with the toy model, for tests that start it as a user would: by a script of `launch/`.

`$TOY_ORDER`, a folder, gets a file a process with a line a video of every batch: the step, and what it looks like.
"""

import hashlib
import os
import sys
from pathlib import Path

import pytest
import toy
from absl import app

from stii_jax import main
from stii_jax.data import Source


def _write_order(folder: Path) -> None:
    """Makes every source write down what it gives."""
    train_batches = Source.train_batches

    def written(self, *arguments, start_step=0, process_index=0, **settings):
        batches = train_batches(self, *arguments, start_step=start_step, process_index=process_index, **settings)
        with (folder / f"{os.getpid()}.txt").open("a") as file:
            for step, batch in enumerate(batches, start_step):
                for number, video in enumerate(batch["video"]):
                    look = hashlib.sha256(video.tobytes()).hexdigest()[:16]
                    print(step, process_index * len(batch["video"]) + number, look, file=file, flush=True)
                yield batch

    Source.train_batches = written  # type: ignore[method-assign]


if __name__ == "__main__":
    toy.use_toy_model(pytest.MonkeyPatch())
    if folder := os.environ.get("TOY_ORDER"):
        _write_order(Path(folder))
    sys.argv[0] = main.__file__
    main.keep_compiled()
    app.run(main._main, flags_parser=main._parse)
