"""One self-contained HTML page for a run or a trained model: curves, scores, and a player of held-out videos.

The page opens no connection (its policy forbids that), runs no script but the one in it, and is the same bytes for the
same run. `main.html`, `page.css` and `page.js` are its parts; the videos are pictures within the page.
"""

from collections.abc import Callable
from pathlib import Path

from ml_collections import ConfigDict

from stii_jax.devices.parallel import use_all_cores
from stii_jax.errors import UserError
from stii_jax.report.files import ReportError
from stii_jax.report.html.clips import held_out_clips
from stii_jax.report.html.document import render
from stii_jax.report.html.subject import open_subject
from stii_jax.storage.files import write_atomic


def write_page(run: str, output: Path, num_videos: int, before_jax: Callable[[ConfigDict], None]) -> int:
    """Writes the page of a run; a page that was there is replaced in one piece. Returns its size in bytes.

    Args:
        run: a workdir, the name of a model that comes with the package, or a .safetensors file.
        output: the .html file.
        num_videos: how many held-out videos to show; fewer where there are fewer.
        before_jax: is run before jax looks for devices.

    Raises:
        ReportError: anything that is the user's to mend.
    """
    if output.suffix != ".html" or output.is_dir() or not output.parent.is_dir():
        raise ReportError(f"{output} cannot be the page: give --output an .html file in a folder that exists")
    if num_videos < 1:
        raise ReportError(f"--videos is {num_videos}, expected at least 1")
    try:
        subject = open_subject(run, before_jax)
        page = render(subject, held_out_clips(subject.config, subject.trained.params, num_videos)).encode()
    except UserError as error:
        raise ReportError(str(error)) from error
    write_atomic(output, page)
    return len(page)


def use_cores(config: ConfigDict) -> None:
    """Lets jax use the cores of a CPU, as many as share a batch of an evaluation."""
    use_all_cores([config.eval.batch_size])
