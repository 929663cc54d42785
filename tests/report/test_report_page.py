"""The report on a folder of runs: the runs it includes, the statistics over seeds, and the content of the page."""

import csv
import json
import math
import re
import statistics
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_report import PUBLISHED, a_run, score, workdir

from stii_jax.report import ReportError, main, result_entry
from stii_jax.report.collect import collect
from stii_jax.report.entries import CURVE_POINTS
from stii_jax.report.figures import effects
from stii_jax.report.published import published_score
from stii_jax.report.seeds import experiments, lower_is_better, summarize
from stii_jax.report.settings import settings_table
from stii_jax.report.tables import data_names, difference_table, length_table, main_table

ROOT = Path(__file__).parents[2]

CONFIG = {"model": {"num_slots": 5, "latent_dim": 64}, "train": {"num_steps": 100}}


def write_json(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def of_sweep(variant, seed, order=0, **changes):
    """Return the entry of a sweep's run."""
    sweep = {"name": "s", "variant": variant, "order": order, "overrides": [f"model.num_slots={order + 2}"]}
    return a_run(seed, **{"name": f"s-{variant}", "sweep": sweep, "config": CONFIG, **changes})


def put(folder, *runs):
    for run in runs:
        write_json(folder / f"{run['sweep']['variant']}-seed{run['seed']}.json", run)


@pytest.fixture
def runs(tmp_path):
    """A folder for runs, with `published.json` beside it."""
    write_json(tmp_path / "published.json", PUBLISHED)
    (tmp_path / "runs").mkdir()
    return tmp_path / "runs"


def report(runs):
    output = runs.parent / "report"
    assert main(["--runs", str(runs), "--output", str(output), "--results", str(runs.parent)]) == 0
    return output


def read_csv(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def section(page, title):
    """Return the cells of a section's table, as dicts."""
    lines = [line for line in page.split(f"## {title}\n")[1].split("\n## ")[0].splitlines() if line.startswith("|")]
    header, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [dict(zip(header, row)) for row in rows]


def test_all_of_a_workdir_is_taken_up(tmp_path):
    folder = workdir(tmp_path, image_size=8)
    lengths = [{"num_frames": 3, "ari": 0.5, "velocity_cosine": None, "seconds": 2.0}]
    write_json(folder / "prediction.json", {"observed_frames": 20, "lengths": lengths})
    facts = {"dataset": "bouncing_balls/color6", "split": "test6", "system": "stii", "num_slots": 7}
    write_json(folder / "results_more.json", {**facts, "lengths": [score(40)]})
    probes = {"latents": {"linear": {"r2": {"color": 0.9}, "num_dims": 3}}}
    write_json(folder / "probes.json", {"frame": 9, "probes": probes})
    (folder / "metrics.jsonl").write_text('{"step": 1, "time": 2.0, "loss": null, "ari": 0.1, "kl": 5}\n')
    sweep = {"name": "s", "variant": "v", "order": 0, "overrides": []}
    entry = result_entry(folder, "name", sweep=sweep)
    assert entry["prediction"] == [{"num_frames": 3, "ari": 0.5, "velocity_cosine": None}]
    more = entry["evaluations"]["more"]
    assert more == {**facts, "dataset": "bouncing_balls/color6 (image_size=8)", "scores": [score(40)]}
    assert entry["probes"] == {"latents": {"linear": {"color": 0.9}}} and entry["sweep"] == sweep
    (point,) = entry["curve"]
    assert math.isnan(point.pop("loss")) and point == {"step": 1, "time": 2.0, "ari": 0.1}


def test_a_workdir_without_evaluations_makes_a_plain_entry(tmp_path):
    assert not result_entry(workdir(tmp_path), "n").keys() & {"prediction", "evaluations", "probes", "curve", "sweep"}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("prediction.json", "{}", "prediction.json: `lengths` is missing"),
        ("prediction.json", '{"lengths": [{"ari": 1}]}', "prediction.json: `num_frames` is missing"),
        ("results_more.json", '{"dataset": "d", "split": "test"}', "results_more.json: `system` is missing"),
        ("probes.json", "[1]", "probes.json: `probes` is missing"),
        ("metrics.jsonl", "{}\n", "metrics.jsonl:1: no JSON object with step and time"),
    ],
)
def test_a_broken_file_of_a_workdir_is_named(tmp_path, name, content, message):
    folder = workdir(tmp_path)
    (folder / name).write_text(content)
    with pytest.raises(ReportError, match=message):
        result_entry(folder, "name")


def test_long_curves_are_thinned_and_keep_what_is_rare(tmp_path):
    folder = workdir(tmp_path)
    lines = [{"step": i, "time": i, "loss": i} | ({"eval_f_ari": i / 1000} if i % 50 == 0 else {}) for i in range(1000)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    curve = result_entry(folder, "name")["curve"]
    steps = [point["step"] for point in curve]
    assert len(curve) == CURVE_POINTS and steps == sorted(steps) and steps[-1] == 999
    assert [point["step"] for point in curve if "eval_f_ari" in point] == list(range(0, 1000, 50))
    assert max(np.diff(steps)) <= 7 and all(point["loss"] == point["step"] for point in curve)


def test_differences_are_taken_seed_by_seed(runs):
    """Effects that the seeds share cancel, leaving .1 for each of the two seeds of both variants."""
    first, other = (0.5, 0.7, 0.9), (0.6, 0.8)
    put(runs, *(of_sweep("first", seed, scores=[score(10, f_ari=value)]) for seed, value in enumerate(first)))
    put(runs, *(of_sweep("other", seed, 1, scores=[score(10, f_ari=value)]) for seed, value in enumerate(other)))
    put(runs, of_sweep("alone", 7, 2, scores=[score(10)]), of_sweep("else", 0, 3, dataset="d", scores=[score(10)]))
    output = report(runs)
    (row,) = section((output / "results.md").read_text(), "Differences")
    assert (row["runs"], row["seeds"], row["frames"]) == ("other - first", "2", "10")
    assert row["F-ARI"] == "+0.1000 ± 0.0000" and row["ARI"] == "+0.0000 ± 0.0000"
    (line,) = [line for line in read_csv(output / "differences.csv") if line["metric"] == "f_ari"]
    assert float(line["mean"]) == pytest.approx(0.1)


def test_effects_are_ordered_and_drawn(runs):
    for order, (variant, values) in enumerate({"first": (0.5, 0.7), "worse": (0.3, 0.4), "better": (0.9,)}.items()):
        scores = [[score(10, f_ari=value, video_f_ari=value / 2)] for value in values]
        put(runs, *(of_sweep(variant, seed, order, scores=one) for seed, one in enumerate(scores)))
    rows = effects(experiments(collect(runs).runs))
    assert [names for names, _ in rows] == [("better", "first"), ("worse", "first")]
    assert rows[0][1]["f_ari"].standard_error is None and rows[0][1]["video_f_ari"].mean == pytest.approx(0.2)
    assert rows[1][1]["f_ari"].mean == pytest.approx(-0.25) and rows[1][1]["f_ari"].seeds.keys() == {0, 1}
    output = report(runs)
    name = "effects_bouncing_balls-color4.png"
    assert f"({name})" in (output / "results.md").read_text()
    red, blue = (np.array([214, 39, 40]), np.array([31, 119, 180]))  # matplotlib's C3 and C0
    pixels = np.asarray(Image.open(output / name).convert("RGB")).reshape(-1, 3).astype(int)
    assert all((np.abs(pixels - colour).max(axis=1) < 3).any() for colour in (red, blue))


def test_no_differences_without_a_pair_of_one_length(runs):
    put(runs, of_sweep("first", 0, scores=[score(10)]), of_sweep("other", 0, 1, scores=[score(20)]))
    assert "## Differences" not in (report(runs) / "results.md").read_text()


def test_statistics_over_seeds():
    values = {0: 0.5, 3: 0.9, 1: 0.7, 2: None, 4: math.nan}
    summary = summarize(values, "ari")
    assert list(summary.seeds) == [0, 1, 3] and summary.total == 5
    assert (summary.mean, summary.median, summary.worst) == (pytest.approx(0.7), 0.7, 0.5)
    assert summary.sd == pytest.approx(statistics.stdev([0.5, 0.7, 0.9]))
    assert summary.standard_error == pytest.approx(summary.sd / math.sqrt(3))
    assert summarize(values, "mse").worst == 0.9
    one = summarize({7: 0.2}, "ari")
    assert one.mean == one.median == one.worst == 0.2 and one.sd is None and one.standard_error is None
    assert summarize({0: None}, "ari") is None


def test_metrics_that_are_errors():
    assert all(map(lower_is_better, ("mse", "speed_error", "speed_error_box", "identity_switches", "merged_frames")))
    assert not any(map(lower_is_better, ("ari", "video_f_ari", "velocity_cosine", "fg_miou")))


def test_experiments_are_in_the_sweeps_order_and_have_labels_of_their_own():
    runs = [of_sweep("b", 1, order=0), of_sweep("b", 0, order=0), of_sweep("a", 0, order=1)]
    found = experiments([a_run(name="alone"), *runs])
    assert [experiment.label for experiment in found] == ["alone", "b", "a"]
    assert [run["seed"] for run in found[1].runs] == [0, 1]
    found = experiments([*runs, a_run(name="b")])
    assert {experiment.label for experiment in found} == {"b", "s-b", "a"}


def test_short_names_of_data():
    full = ["x/y (a=1)", "x/y (a=2)", "z (b=1)"]
    assert data_names(full) == {full[0]: "x/y #1", full[1]: "x/y #2", full[2]: "z"}


def test_workdirs_at_any_depth_and_entries(runs, tmp_path):
    for place in ("deep/er/plain/seed0", "single"):
        (runs / place).parent.mkdir(parents=True, exist_ok=True)
        workdir(tmp_path).rename(runs / place)
    put(runs / "sweep", of_sweep("v", 0))
    for seed in (0, 1):  # the run behind the entry, and one with unfinished jobs
        (runs / "sweep" / "v").mkdir(exist_ok=True)
        workdir(tmp_path).rename(runs / "sweep" / "v" / f"seed{seed}")
    write_json(runs / "begun" / "config.json", {})
    write_json(runs / "other.json", {"no": "scores"})
    collection = collect(runs)
    assert [run["name"] for run in collection.runs] == ["deep/er/plain", "s-v", "single"]
    assert collection.unfinished == ["begun", "sweep/v/seed1"]
    assert [run["name"] for run in collect(runs / "single").runs] == ["single"]


def test_a_name_in_several_folders_stands_for_an_experiment_in_each(runs):
    """The difference is that of the sweep's own folder, where the seeds also are."""
    put(runs / "one", of_sweep("first", 0), of_sweep("other", 0, 1, scores=[score(10, ari=0.9)]))
    put(runs / "two", of_sweep("first", 0, wall_seconds=9.0, scores=[score(10, ari=0.1)]))
    write_json(runs / "single.json", a_run(name="single"))
    write_json(runs / "three" / "single.json", a_run(name="single", dataset="clevrer"))
    found = experiments(collect(runs).runs)
    assert [e.label for e in found] == ["single", "three/single", "one/first", "other", "two/first"]
    output = report(runs)
    page = (output / "results.md").read_text()
    assert [row["runs"] for row in section(page, "Differences")] == ["other - one/first"]
    assert {"lengths_bouncing_balls-color4-one-s.png", "lengths_bouncing_balls-color4-single-runs.png"} < {
        path.name for path in output.iterdir()
    }


def test_our_own_results_can_be_reported():
    """Tables only: figures of this many runs take half a minute."""
    collection = collect(ROOT / "results")
    found = experiments(collection.runs)
    labels = [experiment.label for experiment in found]
    assert {"quickstart", "benchmark/bfloat16/reference", "quick/ablations/reference"} < {*labels}
    assert len(set(labels)) == len(labels) and collection.unfinished == ["balls"]
    table = difference_table(found)
    assert "| bfloat16 - benchmark/bfloat16/reference | 40 | 3 |" in table.markdown
    assert "| kl-3 - quick/ablations/reference | 40 | 5 |" in table.markdown
    tables = (settings_table(found), main_table(found, None), length_table(found, None))
    for label in labels:
        assert all(f"| {label} |" in table.markdown for table in tables)


def test_training_steps_of_stages_with_settings_of_their_own(runs):
    stages = [[1, 6, 200, "model.temperature=3"], [4, 2, 50]]
    put(runs, of_sweep("a", 0, config=CONFIG | {"curriculum": {"stages": stages}}))
    (row,) = read_csv(report(runs) / "runs.csv")
    assert row["training steps"] == "350"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "no finished run in this folder"),
        ({"w/config.json": "{}"}, "no finished run in this folder, only unfinished ones: w"),
        ({"torn.json": "{"}, "torn.json: not JSON"),
        ({"w/config.json": "{}", "w/results.json": "{"}, "results.json: not JSON"),
        ({"a.json": json.dumps(a_run()), "b.json": json.dumps(a_run())}, "b.json is a copy of .*a.json: remove one"),
        ({"x/a.json": json.dumps(a_run()), "y/a.json": json.dumps(a_run())}, "y/a.json is a copy of .*x/a.json"),
        (
            {"a.json": json.dumps(a_run()), "b.json": json.dumps(a_run(wall_seconds=9.0))},
            "both named 'color4' and have seed 0: remove one, or change its `name`",
        ),
        ({"a.json": json.dumps(a_run(prediction=[]))}, "`prediction` is \\[\\], expected one dict per length"),
        ({"a.json": json.dumps(a_run(evaluations={"x": {}}))}, "`dataset` is missing"),
    ],
)
def test_one_line_for_runs_that_cannot_be_reported(runs, files, message, capsys):
    for name, content in files.items():
        (runs / name).parent.mkdir(exist_ok=True, parents=True)
        (runs / name).write_text(content)
    arguments = ["--runs", str(runs), "--output", str(runs.parent / "report"), "--results", str(runs.parent)]
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert re.fullmatch(f"error: .*{message}.*\n", error) and not (runs.parent / "report").exists()


@pytest.mark.parametrize("arguments", [["--runs", "x"], ["--output", "x"]])
def test_arguments_that_go_together(arguments):
    with pytest.raises(SystemExit):
        main(arguments)
    with pytest.raises(SystemExit):
        main(["--runs", "x", "--output", "y", "--readme", "z"])


def test_scores_beside_the_published_ones(runs):
    ari = (0.7, 0.8, 0.75)
    scores = [[score(10, ari=0.1), score(20, ari=value, identity_switches=2.0)] for value in ari]
    put(runs, *(of_sweep("full", seed, scores=scores[seed]) for seed in range(3)))
    put(runs, of_sweep("small", 0, 1, dataset="bouncing_balls/color4 (image_size=32)"))
    output = report(runs)
    page = (output / "results.md").read_text()
    full, small = section(page, "Scores")
    assert (full["run"], full["frames"], full["seeds"]) == ("full", "20", "3")
    assert full["ARI"] == f"0.7500 ± {statistics.stdev(ari) / math.sqrt(3):.4f}"
    assert full["identity switches"] == "2.00 ± 0.00" and "FG-mIoU" not in full
    assert full["published ARI / F-ARI / MSE"] == "0.7291 / 1.0000 / 0.0002 (STII)"
    assert small["published ARI / F-ARI / MSE"] == "not published here"
    assert small["ARI"] == "0.7000", "no standard error of one seed"
    (row,) = [r for r in read_csv(output / "main.csv") if (r["run"], r["metric"]) == ("full", "ari")]
    assert (row["num_frames"], row["seeds"], row["published"], row["worst"]) == ("20", "3", "0.7291", "0.7")
    assert float(row["mean"]) == statistics.fmean(ari) and row["values"] == "0:0.7 1:0.8 2:0.75"
    assert len(section(page, "Scores by length")) == 3
    assert "small are small runs, not at the paper's scale (data not used in the paper)" in page
    assert "bouncing_balls/color4 #2 is bouncing_balls/color4 (image_size=32)." in page


def test_without_the_papers_numbers_nothing_is_said_of_them(runs):
    put(runs, of_sweep("full", 0))
    (runs.parent / "published.json").unlink()
    page = (report(runs) / "results.md").read_text()
    assert len(section(page, "Scores")) == 1 and "published" not in page


def test_only_what_exists_has_a_table_and_a_figure(runs):
    put(runs, of_sweep("full", 0), of_sweep("full", 1))
    output = report(runs)
    assert {path.name for path in output.iterdir()} == {
        *("results.md", "runs.csv", "main.csv", "lengths.csv", "lengths_bouncing_balls-color4.png")
    }
    page = (output / "results.md").read_text()
    assert "small run" not in page, "data and size are the paper's"
    assert not re.search("Prediction|Probes|Further|Pictures|Learning", page)


def test_all_tables_figures_and_pictures(runs):
    evaluation = {"dataset": "bouncing_balls/color4", "split": "test", "num_slots": 5, "scores": [score(20, ari=0.2)]}
    for seed in range(2):
        more = {
            "prediction": [{"num_frames": n, "ari": 0.5, "velocity_cosine": 0.9, "speed_error": 0.1} for n in (3, 5)],
            "evaluations": {"seq": {**evaluation, "system": "seq_iodine"}},
            "probes": {"position": {"r2": 0.8}},
            "curve": [{"step": i, "time": i, "loss": None, "ari": 0.1} for i in range(seed + 3)],
        }
        put(runs, of_sweep("full", seed, **more), of_sweep("bare", seed, order=1))
    picture = runs / "full" / "seed0" / "media" / "test_0.png"
    picture.parent.mkdir(parents=True)
    Image.new("RGB", (4, 4)).save(picture)
    output = report(runs)
    page = (output / "results.md").read_text()
    links = re.findall(r"\]\(([^)]+)\)", page)
    assert {path.name for path in output.iterdir()} == {*links, "results.md"}
    assert {"strip_full.png", "curves_bouncing_balls-color4.png", "prediction_bouncing_balls-color4.png"} < set(links)
    first, second = section(page, "Prediction")
    assert (first["run"], first["predicted frames"], first["velocity cosine"]) == ("full", "3", "0.9000 ± 0.0000")
    assert second["predicted frames"] == "5" and "MSE" not in first
    (row,) = section(page, "Further evaluations")
    assert (row["evaluation"], row["system"], row["slots"], row["ARI"]) == ("seq", "seq_iodine", "5", "0.2000 ± 0.0000")
    assert section(page, "Probes") == [{"factor": "position.r2", "full": "0.8000 ± 0.0000"}]
    assert section(page, "Runs")[1]["changed"] == "`model.num_slots=3`"
    for name in links:
        if name.endswith(".png"):
            Image.open(output / name).verify()


def test_settings_are_those_of_the_system_that_was_trained(runs):
    own = {"system": "rnem", "model": {"latent_dim": 8}, "rnem": {"num_slots": 3, "hidden_dim": 25}}
    put(runs, of_sweep("a", 0), of_sweep("b", 0, order=1, config=own))
    page = (report(runs) / "results.md").read_text()
    shown = [(row["slots"], row["latent dimensions"]) for row in section(page, "Runs")]
    assert shown == [("5", "64"), ("3", "")]
    assert "not at the paper's scale (hidden_dim 25 instead of 250" in page


def test_the_same_runs_give_the_same_bytes(tmp_path):
    curve = [{"step": 1, "loss": 1.0}, {"step": 2, "loss": 0.5}]
    files = [of_sweep(variant, seed, curve=curve) for variant in "ab" for seed in (0, 1)]
    written = []
    for place, ordered in (("one", files), ("other", files[::-1])):
        write_json(tmp_path / place / "published.json", PUBLISHED)
        put(tmp_path / place / "runs", *ordered)
        written.append({path.name: path.read_bytes() for path in report(tmp_path / place / "runs").iterdir()})
    assert written[0] == written[1] and len(written[0]) == 8


@pytest.mark.parametrize(
    ("dataset", "model", "num_frames", "expected"),
    [
        ("bouncing_balls/color4", "STII", 20, 0.7291),
        ("bouncing_balls/color4", "STII", 40, None),
        ("bouncing_balls/color4", "IODINE", 10, None),
        ("clevrer", "IODINE", 10, 0.1791),  # a metric of single frames, at every length
    ],
)
def test_published_numbers_are_of_the_very_data_model_and_length(dataset, model, num_frames, expected):
    assert published_score(PUBLISHED, dataset, model, num_frames, "ari") == expected
    assert published_score(PUBLISHED, dataset, model, num_frames, "video_ari") is None
