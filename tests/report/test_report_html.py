"""The page of `report --html`: its content, its reproducibility, and protection against foreign code."""

import base64
import hashlib
import io
import json
import re

import jax
import numpy as np
import pytest
from html_page import HOSTILE, SCORES, Reader, a_log, a_page, a_subject, random_clip, random_decomposition
from PIL import Image
from toy import make_config, use_toy_model

from stii_jax import pretrained
from stii_jax.evaluation import novelty
from stii_jax.models import registry
from stii_jax.pretrained import Trained
from stii_jax.report import ReportError, main
from stii_jax.report.html import clips, curves, document, subject
from stii_jax.report.html.scores import scores_table
from stii_jax.report.markup import script_json
from stii_jax.storage.files import write_results

NAMES = {"main.html", "page.css", "page.js"}


def data_of(page):
    return json.loads(Reader(page).texts["script"][0])


def decode(uri):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/png;base64,")))))


def unpack(uri, height, width, count):
    """Return the pictures of a sheet."""
    sheet = decode(uri)
    rows, columns = sheet.shape[0] // height, sheet.shape[1] // width
    images = sheet.reshape(rows, height, columns, width, *sheet.shape[2:]).swapaxes(1, 2)
    return images.reshape(-1, height, width, *sheet.shape[2:])[:count]


def test_the_page_needs_nothing_but_itself():
    page, _ = a_page()
    reader = Reader(page)
    (policy,) = [tag["content"] for tag in reader.all("meta") if tag.get("http-equiv") == "Content-Security-Policy"]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'" and rules["img-src"] == "data:" and "unsafe" not in policy
    for kind, text in (("script-src", reader.texts["script"][1]), ("style-src", reader.texts["style"][0])):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert rules[kind] == f"'sha256-{digest}'"
    for _, attributes in reader.tags:
        assert not [name for name in attributes if name.startswith("on") or name == "style"]
        for name in ("src", "href", "action"):
            assert (attributes.get(name) or "data:").startswith("data:")
    assert "http:" not in page.replace("http://www.w3.org", "") and "https:" not in page


def test_no_text_of_a_run_becomes_markup():
    plain, hostile = Reader(a_page()[0]), Reader(a_page(HOSTILE)[0])
    assert [tag for tag, _ in plain.tags] == [tag for tag, _ in hostile.tags]
    assert len(hostile.texts["script"]) == 2
    settings = a_subject().trained.config
    settings.data.options.palette = HOSTILE
    assert "<img src=x" not in document.render(a_subject(HOSTILE), [random_clip(0)])


def test_hostile_names_of_curves_end_no_script():
    assert "<" not in script_json({HOSTILE: HOSTILE}) and json.loads(script_json([HOSTILE])) == [HOSTILE]


def test_the_head_of_the_page():
    page, _ = a_page()
    for name, value in {"step": 5, "seed": 3, "training time": "13 min", "hardware": "a run", "system": "stii"}.items():
        assert f"<dt>{name}</dt><dd>{value}</dd>" in page
    assert "<title>a run " in page and "After frame 4 the model no longer sees the video" in page
    assert re.search(r"<pre[^>]*>\{.*num_slots", page, re.DOTALL), "every setting"


def test_reconstruction_of_held_out_videos():
    errors = np.full((3, 2), 0.0604)
    held_out = novelty.summarize({"relative_error": errors, "mse": errors, "log_likelihood": errors - 1})
    page = document.render(a_subject()._replace(held_out=held_out), [random_clip(0)])
    assert (
        "<dd>relative error 0.06 (median of 3 videos), log-likelihood -0.94 nats per pixel; --mode decompose warns of "
        "a video with a relative error above 0.12</dd>"
    ) in page
    for stranger in (None, HOSTILE, {"per_video": [HOSTILE]}):
        assert "median of" not in document.render(a_subject()._replace(held_out=stranger), [random_clip(0)])


def test_same_run_same_bytes():
    assert a_page()[0] == a_page()[0]


def test_sheets_hold_the_pictures_and_masks_round_to_the_models_segmentation():
    decomposition = random_decomposition(0, 7, 3, 8)
    clip = random_clip(0)
    assert (clip.masks.argmax(axis=1) == decomposition.masks[0].argmax(axis=1)).all()
    assert np.abs(clip.masks / 255 - decomposition.masks[0]).max() <= 1 / 255
    seen = clip.masks > 0
    assert np.abs(clip.means / 255 - decomposition.means[0])[seen].max() <= 0.5001 / 255
    assert not clip.means[~seen].any()
    data = clips.clip_data(clip)
    for name, expected in {"video": clip.video, "truth": clip.truth, "means": clip.means, "masks": clip.masks}.items():
        flat = expected.reshape(-1, *expected.shape[1 if name in ("video", "truth") else 2 :])
        assert (unpack(data["sheets"][name], 8, 8, len(flat)) == flat).all(), name


def test_responsibilities_have_a_sheet_of_their_own():
    """The reconstruction still needs the masks."""
    by_masks, sharper = random_decomposition(0, 7, 3, 8), random_decomposition(5, 7, 3, 8).masks
    video = np.zeros((7, 8, 8, 3), np.uint8)
    clip = clips.make_clip(video, by_masks._replace(responsibilities=sharper), None, 4)
    assert (clip.masks.argmax(axis=1) == by_masks.masks[0].argmax(axis=1)).all()
    assert (clip.responsibilities.argmax(axis=1) == sharper[0].argmax(axis=1)).all()
    sheet = unpack(clips.clip_data(clip)["sheets"]["responsibilities"], 8, 8, 7 * 3)
    assert (sheet == clip.responsibilities.reshape(-1, 8, 8)).all()
    assert "responsibilities" not in clips.clip_data(random_clip(0))["sheets"]


def test_equal_masks_keep_their_winner():
    masks = np.array([0.4999, 0.5001], np.float32).reshape(1, 2, 1, 1)
    assert clips._in_255ths(masks).ravel().tolist() == [127, 128]
    masks = np.array([0.33332, 0.33331, 0.33337], np.float32).reshape(1, 3, 1, 1)
    assert clips._in_255ths(masks).ravel().tolist() == [85, 85, 86]


def test_a_video_without_labels_has_no_truth():
    assert random_clip(1).truth is None and "truth" not in clips.clip_data(random_clip(1))["sheets"]


def test_stills_for_browsers_without_scripts():
    page, found = a_page()
    stills = [tag for tag in Reader(page).all("img") if tag["src"].startswith("data:image/png")]
    assert [decode(tag["src"]).shape for tag in stills] == [clip.strip.shape for clip in found]
    assert all(tag["alt"] for tag in stills)
    assert page.index("<noscript>") < page.index(stills[0]["src"]) < page.index("</noscript>")


def test_scores_of_all_files_with_errors():
    table = scores_table(a_subject().evaluations, 5)
    assert table.count("<tr>") == 1 + 3 and "predicted, step 4" in table and "test videos, a run</th>" in table
    assert 'data-value="0.9">0.9000 <small>&plusmn; 0.0100</small>' in table
    assert 'data-value="0.002">0.00200' in table and "&ndash;" in table, "the second length has no MSE"
    assert scores_table([], 5) == ""


def test_curves_have_a_stage_mark_where_clips_grow():
    drawn = curves.charts(a_log())
    assert [chart.title for chart in drawn] == ["Loss", "Segmentation"]
    assert curves.stages(a_log()) == [(10, 1), (200, 4)]
    html = curves.chart_html(drawn[1], curves.stages(a_log()))
    assert "T=1<" in html and "T=4<" in html and html.count("<polyline") == 2 and html.count("<circle") == 4
    assert "F-ARI of held-out videos" in html and "<table>" in html
    first, last = curves.chart_data(drawn[1])["curves"]["F-ARI of training batches"][:: len(a_log()) - 1]
    assert first == [10, 0.02] and last == [400, 0.8]


def test_every_point_of_a_curve_is_inside_its_axes():
    lines = [{"step": 0, "loss": 1e9}, *({"step": i, "loss": 5.0} for i in range(1, 30)), {"step": 99, "f_ari": -0.3}]
    for chart in curves.charts(lines):
        html = curves.chart_html(chart, [])
        for points in re.findall(r'points="([^"]*)"', html):
            x, y = np.array([pair.split(",") for pair in points.split()], float).T
            assert x.min() >= curves.LEFT and x.max() <= curves.WIDTH - curves.RIGHT
            assert y.min() >= curves.TOP and y.max() <= curves.HEIGHT - curves.BOTTOM


def test_no_curves_without_a_log():
    assert curves.charts([]) == [] and curves.charts([{"step": 1, "loss": float("nan")}]) == []
    page = document.render(a_subject()._replace(log=[], evaluations=[]), [random_clip(0)])
    assert 'class="chart"' not in page and "Not evaluated yet" in page


@pytest.mark.parametrize("low, high", [(-120_000.0, -20_000.0), (0.0, 1.0), (0.0, 4500.0), (-0.3, 1.0), (1e-7, 3e-7)])
def test_ticks_are_round_and_few(low, high):
    ticks = curves._ticks(low, high)
    assert 3 <= len(ticks) <= 8 and ticks[0] >= low - 1e-9 and ticks[-1] <= high + 1e-9 * abs(high)
    assert np.allclose(np.diff(ticks), ticks[1] - ticks[0])


def test_paths_stay_here():
    settings = a_subject(**{"data.data_dir": "/some/where"})
    assert "/some/where" not in document.render(settings, [random_clip(0)])


def test_only_three_files_beside_the_code():
    assert {path.name for path in document.FOLDER.iterdir() if path.suffix != ".py" and path.is_file()} == NAMES


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The file of an untrained toy model."""
    folder = tmp_path_factory.mktemp("model")
    with pytest.MonkeyPatch.context() as patch:
        use_toy_model(patch)
        patch.setenv("STII_DATA_DIR", str(folder / "data"))
        config = make_config(folder / "data")
        params = registry.make_model(config, 8).init(jax.random.key(0))
        errors = np.full((3, 2), 0.0604)
        held_out = novelty.summarize({"relative_error": errors, "mse": errors, "log_likelihood": errors})
        facts = {"step": 7, "seed": 0, "results": {"split": "test", "lengths": SCORES, novelty.KEY: held_out}}
        pretrained.save(folder / "toy.safetensors", Trained(config, params, facts))
        yield folder / "toy.safetensors"


@pytest.mark.usefixtures("quick_compiles")
def test_from_the_command_line(model, tmp_path, capsys):
    output = tmp_path / "page.html"
    assert main(["--html", str(model), "--output", str(output), "--videos", "99"]) == 0
    assert capsys.readouterr().out.endswith(f"{output}: {output.stat().st_size / 1e6:.1f} MB\n")
    page = output.read_text()
    data = data_of(page)
    assert [(clip["frames"], clip["observed"], clip["slots"]) for clip in data["clips"]] == [(5, 3, 2)] * 8, (
        "no more than there are"
    )
    assert data["charts"] == [] and "<title>toy " in page and "0.9000" in page
    assert "relative error 0.06 (median of 3 videos)" in page


@pytest.mark.parametrize(
    "run, videos, output, message",
    [
        ("nothing", 1, "page.html", "nothing: neither a run .* nor a model: give --html a workdir"),
        (".", 1, "page.html", ": neither a run"),
        ("nothing", 1, "page.txt", "page.txt cannot be the page: give --output an .html file"),
        ("nothing", 1, "no/page.html", "in a folder that exists"),
        ("nothing", 0, "page.html", "--videos is 0, expected at least 1"),
        ("broken.safetensors", 1, "page.html", "is damaged"),
        ("broken", 1, "page.html", "holds|damaged|config"),
    ],
)
def test_one_line_for_decompositions_that_cannot_be_shown(tmp_path, monkeypatch, capsys, run, videos, output, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.safetensors").write_bytes(b"x")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text("[]")
    assert main(["--html", run, "--output", output, "--videos", str(videos)]) == 2
    assert re.fullmatch(f"error: .*({message}).*\n", capsys.readouterr().err)
    assert not list(tmp_path.glob("page*"))


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--html", "x"], "--html needs --output"),
        (["--videos", "2"], "--videos needs --html"),
        (["--html", "x", "--output", "y.html", "--check", "--runs=z"], "leave out --check, --runs"),
        (["--html", "x", "--output", "y.html", "--results=z", "--name=n"], "leave out --results, --name"),
    ],
)
def test_arguments_that_would_do_nothing(arguments, message, capsys):
    with pytest.raises(SystemExit):
        main(arguments)
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("content", [[1], {"lengths": 5}, {"lengths": [{"num_frames": "x"}]}, {"a": "b"}])
def test_broken_scores_are_named(tmp_path, content):
    write_results(tmp_path / "results.json", {})
    with pytest.raises(ReportError, match=r"results.json: `results` (holds|has) no scores"):
        subject._evaluation(tmp_path / "results.json", "results", content)
