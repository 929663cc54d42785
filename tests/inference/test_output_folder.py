"""A folder that changes all at once, and in which no foreign file is lost."""

import errno
import json
import os

import pytest

from stii_jax.data import DataError
from stii_jax.inference import output_folder
from stii_jax.inference.output_folder import NAMES, SUMMARY, check_output, replace_output

JOB = {"input": "/videos/a.mp4", "num_predicted": "0"}
OTHER = {"input": "/videos/b.mp4", "num_predicted": "0"}


class Killed(BaseException):
    """A kill, after which no cleanup runs."""


def fill(folder, text, names=NAMES):
    for name in names:
        if "." in name:
            (folder / name).write_text(text)
        else:
            (folder / name).mkdir()
            (folder / name / {"masks": "000000.png", "objects": "slot_1.mp4"}[name]).write_text(text)
    (folder / SUMMARY).write_text(json.dumps({"files": sorted(names), "text": text}))


def write(output, text, job=JOB, overwrite=False, names=NAMES):
    with replace_output(output, names, job, overwrite) as folder:
        fill(folder, text, names)


def contents(output):
    return {str(path.relative_to(output)): path.read_text() for path in output.rglob("*") if path.is_file()}


def refused(output, message, job=JOB, overwrite=False, names=NAMES):
    before = contents(output)
    with pytest.raises(DataError, match=message) as caught:
        write(output, "new", job, overwrite, names)
    assert "\n" not in str(caught.value) and contents(output) == before


def test_an_empty_folder_takes_results(tmp_path):
    for output in (tmp_path, tmp_path / "deep" / "folder"):
        write(output, "first")
        assert {path.name for path in output.iterdir()} - {"deep"} == {*NAMES}
        for path in output.iterdir():
            path.unlink() if path.is_file() else [p.unlink() for p in path.iterdir()] and path.rmdir()


def test_earlier_results_are_replaced_only_if_asked(tmp_path):
    write(tmp_path, "first")
    refused(tmp_path, r"holds the results of a decomposition: give another --output, or --overwrite")
    refused(tmp_path, "or --overwrite", OTHER)
    write(tmp_path, "second", OTHER, overwrite=True)
    assert set(contents(tmp_path).values()) - {json.dumps({"files": sorted(NAMES), "text": "second"})} == {"second"}


def test_files_of_somebody_else_stay(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    refused(tmp_path, "holds 1 files: give another --output")
    write(tmp_path, "first", overwrite=True)
    (tmp_path / "masks" / "notes.txt").write_text("mine")
    write(tmp_path, "second", overwrite=True, names=(*NAMES, "coco.json", "objects"))
    (tmp_path / "objects" / "best.mp4").write_text("mine")
    write(tmp_path, "third", overwrite=True)
    found = contents(tmp_path)
    assert found["notes.txt"] == found["masks/notes.txt"] == found["objects/best.mp4"] == "mine"
    # The second video's files in other formats would be mistaken for the third's.
    assert found.keys() == {
        *("notes.txt", "masks/notes.txt", "objects/best.mp4", "masks/000000.png"),
        *(name for name in NAMES if name != "masks"),
    }


@pytest.mark.parametrize("name", ["masks/000000.png", "overlay.mp4", "coco.json"])
def test_files_that_only_look_like_ours_are_not_replaced(tmp_path, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("mine")
    names = (*NAMES, "coco.json")
    message = rf"{name.split('/')[0]} exists, but is not from a decomposition: give another --output"
    refused(tmp_path, message, overwrite=True, names=names)


def test_a_summary_owns_no_other_names(tmp_path):
    """It may have been edited, or belong to another program."""
    (tmp_path / "thesis.tex").write_text("mine")
    (tmp_path / SUMMARY).write_text(json.dumps({"files": ["thesis.tex", "../elsewhere", "overlay.mp4"]}))
    write(tmp_path, "new", overwrite=True)
    assert contents(tmp_path)["thesis.tex"] == "mine"


@pytest.mark.parametrize("moves", range(len(NAMES) + 1))
@pytest.mark.parametrize("earlier", [False, True])
def test_the_same_command_works_after_a_kill(tmp_path, monkeypatch, moves, earlier):
    """A kill may come at any time, also while the results are moved to their places."""
    if earlier:
        write(tmp_path, "earlier", OTHER)
    with monkeypatch.context() as patch:
        from stii_jax.inference import output_folder

        done, original = [], output_folder._replace

        def replace(*arguments):
            if len(done) == moves:
                raise Killed
            done.append(original(*arguments))

        patch.setattr(output_folder, "_replace", replace)
        patch.setattr(output_folder.shutil, "rmtree", lambda *_, **__: None)
        if moves == len(NAMES):
            write(tmp_path, "killed", overwrite=earlier)
        else:
            with pytest.raises(Killed):
                write(tmp_path, "killed", overwrite=earlier)
    assert (tmp_path / ".unfinished").exists()
    if earlier:
        refused(tmp_path, "--overwrite")
    elif moves:
        refused(tmp_path, "--overwrite", OTHER)
    write(tmp_path, "new", overwrite=earlier)
    found = contents(tmp_path)
    assert found.keys() == {"masks/000000.png", *(name for name in NAMES if name != "masks")}
    assert {text for name, text in found.items() if name != SUMMARY} == {"new"}


def test_an_error_leaves_the_earlier_results(tmp_path):
    write(tmp_path, "first")
    before = contents(tmp_path)
    with pytest.raises(ZeroDivisionError), replace_output(tmp_path, NAMES, JOB, True) as folder:
        fill(folder, "second")
        raise ZeroDivisionError
    assert contents(tmp_path) == before


@pytest.mark.parametrize("inside", ["", "media", "checkpoints", "media/deep/folder", "tensorboard"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_the_folders_of_a_run_are_refused(tmp_path, inside, overwrite):
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    (run / "config.json").write_text("{}")
    (tmp_path / "link").symlink_to(run)
    for start in (run, tmp_path / "link"):
        with pytest.raises(DataError, match=r"the folder of a run, .* such as .*/run/found"):
            check_output(start / inside, NAMES, JOB, overwrite)
    check_output(run / "found", NAMES, JOB, overwrite)


def test_one_decomposition_at_a_time(tmp_path):
    with replace_output(tmp_path, NAMES, JOB, overwrite=False) as folder:
        for job in (JOB, OTHER):
            refused(tmp_path, f"another decomposition is writing to {tmp_path}: wait for its end, or give", job, True)
        fill(folder, "first")
    assert {path.name for path in tmp_path.iterdir()} == {*NAMES}
    write(tmp_path, "second", overwrite=True)


def test_a_file_system_that_locks_no_folders(tmp_path, monkeypatch):
    """NFS needs a file that is open for writing."""

    def fails(*_):
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))

    monkeypatch.setattr(output_folder.fcntl, "flock", fails)
    write(tmp_path, "first")
    assert {path.name for path in tmp_path.iterdir()} == {*NAMES}
