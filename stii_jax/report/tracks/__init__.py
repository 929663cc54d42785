"""One self-contained HTML page for a decomposed recording: a player, timelines, paths, and corrections of the tracks.

The page opens no connection and runs no outside script; its content security policy forbids both. It is made of
`main.html`, `page.css` and the `.js` files; `tracks.js` is pure computation and does not access the DOM. The
recording's frames are embedded as images; see `pictures` for their number and size.
"""

from pathlib import Path

from stii_jax.errors import UserError
from stii_jax.report.files import ReportError
from stii_jax.report.tracks.document import render
from stii_jax.report.tracks.folder import open_decomposition
from stii_jax.storage.files import write_atomic


def write_tracks_page(folder: Path, output: Path, recording: Path | None = None) -> int:
    """Write the page of a decomposition, atomically replacing an earlier one. Returns its size in bytes.

    Args:
        folder: the folder that `--mode decompose` wrote.
        output: the .html file.
        recording: the decomposed video; None uses the path recorded in `folder`.

    Raises:
        ReportError: a file is missing, damaged, or does not fit the others.
    """
    if output.suffix != ".html" or output.is_dir() or not output.parent.is_dir():
        raise ReportError(f"{output} cannot be the page: give --output an .html file in a folder that exists")
    try:
        page = render(open_decomposition(folder, recording)).encode()
    except ReportError:
        raise
    except UserError as error:
        raise ReportError(str(error)) from error
    write_atomic(output, page)
    return len(page)
