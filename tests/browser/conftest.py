"""A headless Chromium and pages opened in it. Every page is watched for errors and requests."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from found_folder import write_found
from html_page import a_page

from stii_jax.report.html.clips import Clip
from stii_jax.report.tracks import write_tracks_page


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install -e '.[test,browser]'")
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no chromium on the PATH: apt install chromium")
    with playwright.sync_playwright() as driver:
        # Chromium's sandbox does not start as root, e.g. in a container.
        started = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="session")
def written(tmp_path_factory) -> tuple[Path, list[Clip]]:
    """The file of a page, and its videos."""
    text, clips = a_page()
    path = tmp_path_factory.mktemp("page") / "page.html"
    path.write_text(text, encoding="utf-8")
    return path, clips


@pytest.fixture
def show(browser) -> Iterator[Callable[..., Any]]:
    """`show(path, **context_settings)` opens a file; at the end, no error or request may have occurred."""
    troubles: list[str] = []
    contexts = []

    def show(path: Path, ready: str = "#player[data-ready]", **settings: Any) -> Any:
        context = browser.new_context(
            **{"reduced_motion": "reduce", "viewport": {"width": 1200, "height": 900}} | settings
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(15_000)
        page.on("console", lambda message: troubles.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: troubles.append(f"error: {error}"))
        page.on("dialog", lambda dialog: troubles.append(f"dialog: {dialog.message}"))
        page.on("request", lambda request: note(request.url))
        address = path.as_uri()

        def note(url: str) -> None:
            if url != address and not url.startswith("data:"):
                troubles.append(f"request: {url}")

        page.goto(address)
        page.wait_for_selector(ready)
        return page

    yield show
    for context in contexts:
        context.close()
    assert not troubles


@pytest.fixture
def page(show, written) -> Any:
    """The page in a desktop window, with playback stopped."""
    return show(written[0])


@pytest.fixture(scope="session")
def tracks_path(tmp_path_factory) -> Path:
    """The file of a decomposition's page."""
    folder = tmp_path_factory.mktemp("tracks")
    write_tracks_page(write_found(folder / "found"), folder / "page.html")
    return folder / "page.html"


@pytest.fixture
def tracks_page(show, tracks_path) -> Any:
    """The page of a decomposition in a desktop window."""
    return show(tracks_path)
