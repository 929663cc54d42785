"""The folder in which test processes and sessions share compiled programs."""

import os
import sys

import jax
import programs
import pytest


def write(folder, name, size=10, age=0):
    """Write a program that is `age` seconds old."""
    path = folder / f"{name}-cache"
    path.write_bytes(bytes(size))
    os.utime(path, (1_000_000 - age,) * 2)
    return path


def finish(folder, age):
    programs.finish(folder)
    os.utime(folder / programs.CLEAN, (1_000_000 - age,) * 2)


def names(folder):
    return {path.name.removesuffix("-cache") for path in folder.glob("*-cache")}


def test_programs_of_a_killed_session_are_removed_and_those_of_whole_ones_kept(tmp_path):
    folder = tmp_path / "new" / "folder"
    programs.start(folder)
    write(folder, "whole", age=100)
    finish(folder, age=50)
    write(folder, "perhaps_cut_short", age=10)
    programs.start(folder)
    assert names(folder) == {"whole"}
    (folder / programs.CLEAN).unlink()
    programs.start(folder)
    assert names(folder) == set()


def test_too_many_programs_are_all_removed(tmp_path):
    for name in "ab":
        write(tmp_path, name, size=50, age=100)
    finish(tmp_path, age=50)
    programs.start(tmp_path, limit=100)
    assert names(tmp_path) == {"a", "b"}
    programs.start(tmp_path, limit=99)
    assert names(tmp_path) == set()


def test_machines_that_differ_have_folders_of_their_own(tmp_path, monkeypatch):
    folders = set()
    for cpu in ("flags : avx2", "flags : avx2 avx512", "flags : avx2"):
        monkeypatch.setattr(programs, "_cpu", lambda cpu=cpu: cpu)
        folders.add(programs.folder_of_this_machine(tmp_path))
    monkeypatch.setattr("jaxlib.__version__", "0.0")
    folders.add(programs.folder_of_this_machine(tmp_path))
    assert len(folders) == 3


def test_all_processes_of_this_session_use_one_folder(pytestconfig, compiled):
    assert jax.config.jax_compilation_cache_dir == os.environ["JAX_COMPILATION_CACHE_DIR"] == str(compiled)
    if hasattr(pytestconfig, "cache"):
        assert compiled.parent == pytestconfig.cache.mkdir("compiled")
    assert "popen-gw" not in str(compiled)


@pytest.mark.skipif(sys.platform != "linux", reason="/proc/cpuinfo")
def test_the_kind_of_cpu_is_read():
    assert "flags" in programs._cpu() or "Features" in programs._cpu()


@pytest.mark.skipif(sys.platform != "linux", reason="counts the mappings of Linux")
def test_programs_are_released_only_where_there_are_too_many():
    function = jax.jit(lambda x: x + 1)
    assert function(1) == 2
    programs.release(limit=10**6)
    assert function._cache_size() == 1
    programs.release(limit=0)
    assert function._cache_size() == 0
    assert function(1) == 2
