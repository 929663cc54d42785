"""The site builds completely and without warnings, and fetches nothing from other hosts."""

import importlib.util
import os
import re
import subprocess
import sys

import pytest
from pages import DOCS, ROOT

pytestmark = pytest.mark.docs


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    if missing := [name for name in ("mkdocs", "material", "latex2mathml") if importlib.util.find_spec(name) is None]:
        pytest.skip(f"no {', '.join(missing)} here: pip install -e '.[docs]'")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", ".mkdocs.yml", "-d", str(folder)]
    # mkdocs-material prints an announcement about its future, which is not a warning about this site.
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return folder


def test_every_page_is_there(site):
    assert all((site / page.with_suffix(".html").name).is_file() for page in DOCS)
    for path in ("results/quick/index.html", "results/h200/benchmark.json", "launch/index.html", "quickstart.gif"):
        assert (site / path).is_file(), path


def test_links_lead_somewhere(site):
    for page in site.rglob("*.html"):
        for link in re.findall(r'(?:href|src)="([^"#?]+)', page.read_text()):
            # The page for missing addresses uses addresses from the server's root.
            if not re.match(r"\w+:|//", link) and page.name != "404.html":
                assert (page.parent / link).exists(), f"{page.relative_to(site)}: {link}"


def test_nothing_is_fetched_from_elsewhere(site):
    loaded = re.compile(
        r'<(?:script|img|iframe)[^>]+src="\w*:?//|<link[^>]+rel="(?:stylesheet|preconnect)"[^>]+href="\w*:?//'
    )
    for page in site.rglob("*.html"):
        assert not loaded.search(page.read_text()), page.name


def test_equations_are_equations(site):
    method = (site / "method.html").read_text()
    assert method.count("<math ") == (ROOT / "docs" / "method.md").read_text().count("```math")


def test_the_api_is_from_docstrings(site):
    api = (site / "api.html").read_text()
    for name in (
        "stii_jax.models.stii.STII.decompose",
        "stii_jax.evaluation.metrics.adjusted_rand_index",
        "stii_jax.data.pipeline.source.open_dataset",
    ):
        assert f'id="{name}"' in api, name
    assert "The agreement of two labellings up to renaming" in api
