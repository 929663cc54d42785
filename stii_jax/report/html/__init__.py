"""One self-contained HTML page for a run or a trained model: curves, scores, and a player for held-out videos.

The page opens no connection and runs no outside script; its content security policy forbids both. The same run gives
the same bytes. The page is made of `main.html`, `page.css` and `page.js`; videos are embedded as images.
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
    """Write the page of a run, atomically replacing an earlier one. Returns its size in bytes.

    Args:
        run: a workdir, the name of a model that comes with the package, or a .safetensors file.
        output: the .html file.
        num_videos: maximum number of held-out videos to show.
        before_jax: called before JAX looks for devices.

    Raises:
        ReportError: any error that the user can fix.
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
    """Let JAX use as many CPU cores as can share an evaluation batch."""
    use_all_cores([config.eval.batch_size])
