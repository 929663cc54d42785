"""SIGTERM, by which schedulers announce that they will kill: training saves, and stops with exit code 143."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any

from jax.experimental import multihost_utils

from stii_jax.devices import processes


class Preemption:
    """Whether training has been told to stop. In a run of several processes, SIGTERM to one is for all."""

    def __init__(self) -> None:
        self._told = False

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Within, SIGTERM is noted; after it, SIGTERM ends the process as usual. In the main thread only."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before: Any = signal.SIG_DFL
        if not processes.is_distributed():  # there jax has its own handler, since the processes have joined
            before = signal.signal(signal.SIGTERM, self._note)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)

    def noticed(self) -> bool:
        """Whether this process was told to, and may stop by itself, between any two steps."""
        return self._told and not processes.is_distributed()

    def agreed(self, step: int) -> bool:
        """Whether all processes are to stop after `step` steps, or an earlier one; all have to ask at every step."""
        if processes.is_distributed():
            self._told = self._told or bool(multihost_utils.reached_preemption_sync_point(step))
        return self._told

    def _note(self, *_: object) -> None:
        self._told = True
