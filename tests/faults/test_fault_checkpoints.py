"""Checkpoints with damaged files, killed writers or full disks: at most one save is lost."""

import gc
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections import Counter
from pathlib import Path

import pytest
from breaking import TRIALS, cut_short, fill, flip_bit, small_disk
from checkpoints import META, assert_same, make_params, make_state, restore

from stii_jax.storage.checkpoints import Checkpointer, CheckpointError, DamagedCheckpointError, restore_params
from stii_jax.storage.metric_log import MetricWriter, read_metrics

# After an early failure of a read or write, tensorstore's others remain in an event loop that has been closed.
LEFT = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
pytestmark = [pytest.mark.faults, LEFT]
ROOT = Path(__file__).resolve().parents[2]
WIDTH = 3_000


@pytest.fixture(autouse=True)
def collect_what_is_left():
    """Collect them now: if python 3.11 collects them while it parses, it fails with a SystemError in `ast`."""
    yield
    gc.collect()


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder with checkpoints 1 and 2, which have a score and arrays large enough for separate files."""
    folder = tmp_path_factory.mktemp("saved")
    checkpointer = Checkpointer(folder)
    for step in (1, 2):
        params = make_params(WIDTH, seed=step)
        checkpointer.save(step, params, make_state(params, step), META | {"stage": step}, {"f_ari": 0.1 * step})
    checkpointer.close()
    return folder


@pytest.mark.parametrize("damage", [flip_bit, cut_short])
def test_damage_to_any_file_is_noticed_or_harmless(saved, tmp_path, caplog, damage):
    caplog.set_level(logging.CRITICAL, "asyncio")  # it logs every read that tensorstore leaves behind
    folder = Path(shutil.copytree(saved, tmp_path / "copy"))
    files = [path for path in sorted((folder / "2").rglob("*")) if path.is_file() and path.stat().st_size]
    outcomes: Counter[str] = Counter()
    for path in files:
        whole = path.read_bytes()
        for trial in range(TRIALS):
            # The names of data files are random: use counts, so that the same places are tried again.
            damage(path, random.Random(f"{files.index(path)} {trial}"))
            outcomes[_restored_after_damage(folder)] += 1
            path.write_bytes(whole)
    print(f"{damage.__name__}: {len(files)} files, {dict(outcomes)}")
    assert outcomes["noticed"] > TRIALS


def _restored_after_damage(folder: Path) -> str:
    """Check that both readers return the saved values, or report that they cannot."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            params, meta = restore_params(folder)
            assert_same(params, make_params(WIDTH, seed=2))
            assert meta == META | {"stage": 2}
        except DamagedCheckpointError as error:
            assert f"{folder}/2 is damaged" in str(error)
        params, state, meta = restore(folder, WIDTH)
    step = meta["stage"]
    assert_same(params, make_params(WIDTH, seed=step))
    assert_same(state, make_state(params, step))
    assert meta == META | {"stage": step}
    if step == 2:
        return "only the score is lost" if any("the score of" in str(each.message) for each in caught) else "harmless"
    assert any("falling back to the previous checkpoint" in str(each.message) for each in caught)
    (folder / "damaged_2_1").rename(folder / "2")
    return "noticed"


SAVING = """
import sys, itertools
from checkpoints import make_params, make_state
from stii_jax.storage.checkpoints import Checkpointer
checkpointer = Checkpointer(sys.argv[1])
for step in itertools.count(1 + (checkpointer.latest_step() or 0)):
    params = make_params(300_000, seed=step)
    print("begun", step, flush=True)
    checkpointer.save(step, params, make_state(params, step), {"step": step})
    checkpointer.wait()
    print("saved", step, flush=True)
"""


def test_kills_at_random_moments_of_saves_lose_nothing(tmp_path):
    """One run is killed repeatedly: every reported save exists, and the newest step loads bit for bit."""
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    saved = interrupted = 0
    for trial in range(TRIALS):
        command = [sys.executable, "-c", SAVING, str(tmp_path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as child:
            assert child.stdout is not None
            lines = [child.stdout.readline(), child.stdout.readline()]  # the first save takes long
            time.sleep(random.Random(trial).uniform(0, 0.6))
            child.send_signal(signal.SIGKILL)
            lines += child.stdout.readlines()
        saved = max([saved] + [int(line.split()[1]) for line in lines if line.startswith("saved")])
        interrupted += any("tmp" in path.name for path in tmp_path.iterdir())
        params, state, meta = restore(tmp_path, 300_000)
        step = meta["step"]
        assert saved <= step <= saved + 1
        assert_same(params, make_params(300_000, seed=step))
        assert_same(state, make_state(params, step))
        assert not [path for path in tmp_path.iterdir() if "damaged" in path.name]
    print(f"kills: {TRIALS}, {interrupted} in the middle of a save; {saved} checkpoints saved")


def test_a_full_disk_keeps_saved_checkpoints(tmp_path):
    """From no space to slightly more than needed: the save fails completely, or is complete."""
    params = make_params(300_000, seed=1)
    refused = 0
    with small_disk(tmp_path / "disk", megabytes=64) as disk:
        for trial in range(TRIALS):
            run = disk / str(trial)
            checkpointer = Checkpointer(run)
            checkpointer.save(1, params, make_state(params, 1), META)
            checkpointer.wait()
            size = sum(path.stat().st_blocks * 512 for path in run.rglob("*") if path.is_file())
            ballast = fill(disk, left=random.Random(trial).randrange(int(1.1 * size)))
            newest = 1
            try:
                checkpointer.save(2, params, make_state(params, 2), META)
                checkpointer.wait()
                newest = 2
            except CheckpointError as error:
                assert f"cannot write checkpoints to {run} " in str(error) and "free space there" in str(error)
                refused += 1
            assert checkpointer.latest_step() == newest
            assert_same(restore_params(run)[0], params)
            ballast.unlink()
            checkpointer.close()
            restored, state, _ = restore(run, 300_000)  # the run is started again
            assert_same(restored, params)
            assert_same(state, make_state(params, newest))
            checkpointer = Checkpointer(run)
            assert sorted(path.name for path in run.iterdir()) == ["1", "2"][:newest], "something unfinished is left"
            checkpointer.save(3, params, make_state(params, 3), META)
            checkpointer.close()
            assert_same(restore_params(run, 3)[0], params)
            shutil.rmtree(run)
    print(f"full disks: {TRIALS}, {refused} saves refused; a checkpoint has {size / 1e6:.1f} MB")
    assert refused


@pytest.fixture
def clock(monkeypatch):
    """A clock that is `clock["ahead"]` seconds fast."""
    settings, real = {"ahead": 0.0}, time.time
    monkeypatch.setattr(time, "time", lambda: real() + settings["ahead"])
    return settings


DAY = 86_400.0


@pytest.mark.parametrize("jump", [-DAY, DAY], ids=["back", "forward"])
def test_the_clock_may_jump_between_saves(tmp_path, clock, jump):
    """The newest checkpoint is the highest step; no name or content depends on the clock."""
    checkpointer = Checkpointer(tmp_path)
    for step in (1, 2, 3):
        save_one(checkpointer, step)
        checkpointer.wait()
        clock["ahead"] += jump
    checkpointer.close()
    for number in (1, 2):
        os.utime(tmp_path / "3", (0, 0))  # as if it were the oldest
        params, _, meta = restore(tmp_path)
        assert meta["stage"] == 3
        assert_same(params, make_params(seed=3))
        os.truncate(tmp_path / "3" / "meta" / "metadata", 3)
        with pytest.warns(UserWarning, match="falling back"):
            _, _, meta = restore(tmp_path)
        assert meta["stage"] == 2
        assert (tmp_path / f"damaged_3_{number}").is_dir()
        checkpointer = Checkpointer(tmp_path)
        save_one(checkpointer, 3)
        checkpointer.close()
        clock["ahead"] += jump
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2", "3", "damaged_3_1", "damaged_3_2"]


@pytest.mark.parametrize("jump", [-DAY, DAY], ids=["back", "forward"])
def test_a_clock_that_jumps_during_a_save_harms_that_save_at_most(tmp_path, clock, jump):
    """Orbax measures its time-outs by the clock: set forward, it may end the save, and the run with it."""
    checkpointer = Checkpointer(tmp_path)
    save_one(checkpointer, 1)
    checkpointer.wait()
    save_one(checkpointer, 2)
    clock["ahead"] += jump
    try:
        checkpointer.close()
    except CheckpointError as error:
        assert jump > 0 and "the clock is right" in str(error)
    params, _, meta = restore(tmp_path)
    assert meta["stage"] in (1, 2)
    assert_same(params, make_params(seed=meta["stage"]))
    checkpointer = Checkpointer(tmp_path)
    save_one(checkpointer, 3)
    checkpointer.close()
    assert restore(tmp_path)[2]["stage"] == 3


@pytest.mark.parametrize("jump", [-DAY, DAY], ids=["back", "forward"])
def test_logs_do_not_follow_a_clock_that_jumps(tmp_path, clock, jump):
    for first in (1, 3, 5):
        writer = MetricWriter(tmp_path)
        writer.truncate(first)  # a line after the checkpoint is written again
        for step in range(first + 1, first + 4):
            writer.write_scalars(step, {"loss": 1 / step})
            clock["ahead"] += jump
        writer.close()
    lines = read_metrics(tmp_path / "metrics.jsonl")
    assert [line["step"] for line in lines] == list(range(2, 9))
    times = [line["time"] for line in lines]
    assert times == sorted(times) and times[-1] < 600, "seconds of training, by a clock that does not jump"
    assert len(list((tmp_path / "tensorboard").iterdir())) == 3, "a file was replaced by another"


def save_one(checkpointer: Checkpointer, step: int) -> None:
    params = make_params(seed=step)
    checkpointer.save(step, params, make_state(params, step), META | {"stage": step})
