"""Pictures and training in a notebook. Needs IPython, which every notebook has.

    show(strip(video, decomposition))
    play(animation(video, decomposition))
    watch([sys.executable, "-m", "stii_jax.main", "--config", "quickstart", "--workdir", "run"], "run")

`watch` shows the curve and the newest pictures of a run while it trains.
"""

import base64
import contextlib
import html
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from IPython.display import HTML, Image, display

from stii_jax.storage.files import PathLike
from stii_jax.storage.images import Picture, encode_gif, encode_png
from stii_jax.storage.metric_log import read_metrics
from stii_jax.visualization import visualize

LOG = "log.txt"
"""Name of the file in the workdir that receives the output of a watched process."""
_DRIVE = Path("/content/drive")


def run_folder(name: str, *, on_drive: bool) -> Path:
    """Return the folder of a notebook's run: `runs/NAME`, or `stii_jax/NAME` on Google Drive.

    Args:
        name: the name of the notebook.
        on_drive: on Colab, mount Google Drive and keep the run there, so that it outlives the session.
    """
    if not on_drive:
        return Path("runs", name)
    from google.colab import drive

    drive.mount(str(_DRIVE))
    return _DRIVE / "MyDrive" / "stii_jax" / name


def download(folder: Path) -> None:
    """On Colab, pack a folder into `NAME.zip` and send it to the reader's computer."""
    from google.colab import files

    files.download(shutil.make_archive(folder.name, "zip", folder))


def show(*pictures: Picture) -> None:
    """Display images, one below the other."""
    for picture in pictures:
        display(Image(data=encode_png(picture), format="png"))


def play(pictures: Sequence[Picture], fps: int | float = 6) -> None:
    """Display an endless animation."""
    # Not every notebook viewer supports a GIF as a cell's output.
    display(HTML(_image("animation", "gif", encode_gif(pictures, fps), "max-width: 100%")))


def run(*command: object) -> None:
    """Run a command and print its output. Unlike a notebook's `!`, it does not fork the threads of JAX.

    When the cell is stopped, the command is told to terminate.

    Raises:
        RuntimeError: the command failed.
    """
    with _running([str(part) for part in command], subprocess.PIPE) as process:
        assert process.stdout is not None
        while chunk := process.stdout.read1():  # type: ignore[attr-defined]  # as it comes, progress bars included
            print(chunk.decode(errors="replace"), end="", flush=True)
        process.wait()
    if process.returncode:
        raise RuntimeError(f"{shlex.join(map(str, command))} ended with {process.returncode}: see above")


def watch(command: Sequence[str], workdir: PathLike, seconds: float = 5.0) -> None:
    """Run a command that trains in `workdir`, and show its learning curve and newest segmentation until it ends.

    When the cell is stopped, the command saves a checkpoint and ends. Run the cell again to resume.

    Args:
        command: the program and its arguments.
        workdir: the folder of the run.
        seconds: seconds between two updates of the display.

    Raises:
        RuntimeError: the command failed; the message has its last line of output.
    """
    folder = Path(workdir)
    folder.mkdir(parents=True, exist_ok=True)
    screen = display(HTML("starting"), display_id=True)
    with (folder / LOG).open("w") as log, _running(command, log) as process:
        while process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(seconds)
            screen.update(HTML(_page(folder)))
    if process.returncode:
        raise RuntimeError(f"{_last_line(folder / LOG)} (full output: {folder / LOG})")


@contextlib.contextmanager
def _running(command: Sequence[str], output: int | IO[str]) -> Iterator[subprocess.Popen]:
    """Start a process that does not outlive the context."""
    # In its own session, the process gets a notebook's interrupt only as SIGTERM, on which it saves a checkpoint.
    process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()


def _page(folder: Path) -> str:
    """Return the current state of a run's files, as HTML."""
    media = folder / "media"
    parts = [f"<pre>{html.escape(_last_line(folder / LOG))}</pre>"]
    if read_metrics(folder / "metrics.jsonl"):
        media.mkdir(exist_ok=True)
        visualize.plot_learning_curve(media / "curve.png", folder / "metrics.jsonl")
    for name in ("curve.png", "validation_0.gif"):
        if (path := media / name).exists():
            parts.append(_image(name, path.suffix[1:], path.read_bytes(), "max-width: 48%"))
    return "\n".join(parts)


def _image(name: str, kind: str, data: bytes, style: str) -> str:
    return f'<img alt="{name}" src="data:image/{kind};base64,{base64.b64encode(data).decode()}" style="{style}">'


def _last_line(log: Path) -> str:
    """Return the last line of output; a progress bar counts as a line each time it is drawn."""
    lines = [line.strip() for line in re.split(r"[\r\n]", log.read_text(errors="replace"))]
    return next((line for line in reversed(lines) if line), "starting")
