"""The tools for several processes in a run with one; tests/distributed starts several."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from stii_jax.devices import processes
from stii_jax.devices.processes import ProcessError, check_shared, initialize, is_distributed, is_first, run_on_first
from stii_jax.errors import Preempted
from stii_jax.training.preemption import Preemption


def test_a_run_of_one_process(capsys):
    initialize(None, None, None)
    assert not is_distributed() and is_first()
    processes.print_on_first("hello")
    assert capsys.readouterr().out == "hello\n"


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        (("host:1", None, None), "--num_processes, --process_id"),
        ((None, 2, 0), "--coordinator_address"),
        (("host:1", 2, None), "--process_id"),
    ],
)
def test_incomplete_flags(given, missing):
    with pytest.raises(ProcessError, match=f"^give {missing} as well, or --distributed"):
        initialize(*given)


def test_the_only_process_does_what_the_first_one_does():
    done = []
    run_on_first(lambda: done.append(1))
    assert done == [1]
    with pytest.raises(OSError, match="full"):
        run_on_first(lambda: (_ for _ in ()).throw(OSError("full")))


def test_a_file_that_is_not_shared(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "_SEEN_WITHIN", 0.0)
    check_shared(tmp_path)
    with pytest.raises(ProcessError, match=r"process 0 of 1 does not see .*/config.json, .* --workdir must be on"):
        check_shared(tmp_path / "config.json")


def test_leaving_is_at_once_but_nothing_printed_is_lost():
    code = "import atexit; atexit.register(print, 'late'); print('out'); from stii_jax import errors; "
    code += "errors.exit_now(3, 'error: this')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (3, "out\n", "error: this\n")


def test_sigterm_is_noted_while_it_is_watched():
    assert Preempted.EXIT_CODE == 143
    preemption = Preemption()
    with preemption.watched():
        assert not preemption.noticed() and not preemption.agreed(1)
        os.kill(os.getpid(), signal.SIGTERM)
        assert preemption.noticed() and preemption.agreed(2)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_threads_have_no_signals():
    def watch():
        with Preemption().watched():
            seen.append(signal.getsignal(signal.SIGTERM))

    seen = []
    thread = threading.Thread(target=watch)
    thread.start()
    thread.join()
    assert seen == [signal.SIG_DFL]
