"""Preemption: on SIGTERM, a scheduler's warning before it kills, training saves and stops with exit code 143."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any

from jax.experimental import multihost_utils

from stii_jax.devices import processes


class Preemption:
    """A flag that is set when training should stop. In a run of several processes, SIGTERM to one stops all."""

    def __init__(self) -> None:
        self._told = False

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Catch SIGTERM within this context; afterwards it ends the process as usual. Main thread only."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before: Any = signal.SIG_DFL
        if not processes.is_distributed():  # jax installs its own handler when processes connect
            before = signal.signal(signal.SIGTERM, self._note)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)

    def noticed(self) -> bool:
        """True if SIGTERM was received and this process may stop on its own, between any two steps."""
        return self._told and not processes.is_distributed()

    def agreed(self, step: int) -> bool:
        """True if all processes must stop after `step` steps or fewer; all of them must ask at every step."""
        if processes.is_distributed():
            self._told = self._told or bool(multihost_utils.reached_preemption_sync_point(step))
        return self._told

    def _note(self, *_: object) -> None:
        self._told = True
