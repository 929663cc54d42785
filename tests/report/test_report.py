"""The results table: seeds, published numbers, and malformed files."""

import json
import statistics

import pytest

from stii_jax.report import BEGIN, END, RUN_KEYS, SCORE_KEYS, ReportError, main, read_runs, result_entry

PUBLISHED = {
    "source": "Paper, Table 1",
    "rows": [
        {
            "dataset": "bouncing_balls/color4",
            "model": "STII",
            "num_frames": [10, 20],
            "ari": [0.7275, 0.7291],
            "f_ari": [1.0, 1.0],
            "mse": [0.0002, 0.0002],
        },
        {
            "dataset": "clevrer",
            "model": "IODINE",
            "num_frames": [1],
            "ari": [0.1791],
            "f_ari": [0.9316],
            "mse": [0.0004],
        },
    ],
}


def score(num_frames=10, ari=0.7, **changes):
    scores = {"f_ari": 0.99, "video_ari": 0.6, "video_f_ari": 0.9, "mse": 0.0003, "num_videos": 100}
    return {"num_frames": num_frames, "ari": ari, **scores, **changes}


def a_run(seed=0, scores=None, **changes):
    values = {
        "name": "color4",
        "config": {"seed": seed},
        "commit": "0123456789abcdef",
        "hardware": "1 x GPU",
        "wall_seconds": 7200.0,
        "dataset": "bouncing_balls/color4",
    }
    return {**values, "seed": seed, "scores": scores or [score()], **changes}


@pytest.fixture
def results(tmp_path):
    """An empty results folder; `write` adds files."""
    folder = tmp_path / "results"
    folder.mkdir()
    (folder / "published.json").write_text(json.dumps(PUBLISHED))
    return folder


def write(folder, *runs):
    for number, run in enumerate(runs):
        (folder / f"run{number}.json").write_text(json.dumps(run))


def table(folder, capsys):
    """Return the printed tables, as lists of stripped cells by their first cell."""
    assert main(["--results", str(folder)]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return rows


def test_mean_deviation_and_worst_over_seeds(results, capsys):
    ari, mse = (0.70, 0.72, 0.65), (0.0001, 0.0004, 0.0001)
    write(results, *(a_run(seed, [score(ari=ari[seed], mse=mse[seed])]) for seed in range(3)))
    header, _, row, *_ = table(results, capsys)
    cells = dict(zip(header, row))
    assert cells["seeds"] == "3" and cells["frames"] == "10"
    assert cells["ARI"] == f"0.6900 ± {statistics.stdev(ari):.4f} (0.6500)"
    assert cells["MSE"] == "0.00020 ± 0.00017 (0.00040)", "the worst error is the largest"
    assert cells["ARI published"] == "0.7275" and cells["MSE published"] == "0.0002"
    assert cells["video ARI"] == "0.6000 ± 0.0000 (0.6000)"
    assert cells["identity switches"] == "not measured"


def test_the_worst_seed_has_the_most_identity_switches(results, capsys):
    write(results, *(a_run(seed, [score(identity_switches=switches)]) for seed, switches in enumerate((1.0, 3.0))))
    header, _, row, *_ = table(results, capsys)
    assert dict(zip(header, row))["identity switches"] == "2.00 ± 1.41 (3.00)"


def test_one_seed_has_no_deviation_and_lengths_have_rows_of_their_own(results, capsys):
    write(results, a_run(scores=[score(30), score(20, ari=0.5)]))
    header, _, first, second, *_ = table(results, capsys)
    assert [row[header.index("frames")] for row in (first, second)] == ["20", "30"]
    assert first[header.index("ARI")] == "0.5000"
    assert first[header.index("ARI published")] == "0.7291"
    assert second[header.index("ARI published")] == "not published"


def test_only_the_very_dataset_and_model_are_compared(results, capsys):
    write(
        results,
        a_run(name="a", dataset="bouncing_balls/color4 (image_size=32)"),
        a_run(name="b", model="IODINE"),
    )
    header, _, first, second, *_ = table(results, capsys)
    column = header.index("ARI published")
    assert first[column] == second[column] == "not published"


def test_undefined_scores_are_marked(results, capsys):
    write(results, a_run(0, [score(f_ari=None)]), a_run(1, [score(f_ari=0.5)]), a_run(2, [score(f_ari=0.5)]))
    header, _, row, *_ = table(results, capsys)
    assert row[header.index("F-ARI")] == "0.5000 ± 0.0000 (0.5000), 1 undefined"
    write(results, *(a_run(seed, [score(f_ari=None)]) for seed in range(3)))
    header, _, row, *_ = table(results, capsys)
    assert row[header.index("F-ARI")] == "undefined"


def test_sources_and_what_was_not_reproduced(results, capsys):
    write(results, a_run(0, command="train me"), a_run(1, commit="fedcba9876543210", command="train me"))
    rows = table(results, capsys)
    (source,) = [row for row in rows if row[0] == "color4" and "GPU" in row[3]]
    assert source[1:5] == ["100", "2", "1 x GPU", "012345678, fedcba987"]
    assert source[5].startswith("[0](") and "run1.json)" in source[5]
    assert source[6] == "`train me`"
    assert rows[-2][:4] + rows[-2][-1:] == [
        "bouncing_balls/color4",
        "STII",
        "10/20",
        "0.7275/0.7291",
        "color4",
    ]
    assert rows[-1][2] == "each frame" and rows[-1][-1] == "not run"


def test_without_runs_the_published_numbers_remain(results, capsys):
    assert main(["--results", str(results)]) == 0
    text = capsys.readouterr().out
    assert text.startswith("No results yet.") and "not run" in text


@pytest.mark.parametrize("key", [key for key in RUN_KEYS if key != "scores"])
def test_a_run_without_a_key_is_named(results, key):
    run = a_run()
    del run[key]
    write(results, run)
    with pytest.raises(ReportError, match=rf"run0\.json: `{key}` is missing"):
        read_runs(results)


@pytest.mark.parametrize("key", SCORE_KEYS)
def test_a_score_that_is_no_number_is_named(results, key):
    write(results, a_run(scores=[score(**{key: "0.5"})]))
    with pytest.raises(ReportError, match=f"`{key}` of a score is '0.5', expected a number"):
        read_runs(results)
    incomplete = score()
    del incomplete[key]
    write(results, a_run(scores=[incomplete]))
    with pytest.raises(ReportError, match=f"`{key}` is missing"):
        read_runs(results)


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"scores": "none"}, "`scores` is 'none'"), ({"wall_seconds": None}, "`wall_seconds` is None")],
)
def test_other_malformed_runs_are_named(results, changes, message):
    write(results, {**a_run(), **changes})
    with pytest.raises(ReportError, match=message):
        read_runs(results)


def test_files_that_are_no_runs_are_skipped_and_broken_ones_named(results):
    (results / "PLAN.md").write_text("# Plan")
    (results / "note.json").write_text("[1, 2]")
    write(results, a_run())
    assert [run["name"] for run in read_runs(results)] == ["color4"]
    (results / "torn.json").write_text('{"name": ')
    with pytest.raises(ReportError, match=r"torn\.json: not JSON"):
        read_runs(results)


@pytest.mark.parametrize("changes", [{}, {"seed": 1, "dataset": "clevrer"}])
def test_a_name_stands_for_one_experiment(results, changes):
    write(results, a_run(), a_run(**changes))
    with pytest.raises(ReportError, match="both named 'color4'"):
        read_runs(results)


def test_the_readme_is_renewed_and_checked(results, tmp_path, capsys):
    readme = tmp_path / "README.md"
    readme.write_text(f"# Title\n\n{BEGIN}\nold\n{END}\n\nThe rest.\n")
    write(results, a_run())
    arguments = ["--results", str(results), "--readme", str(readme)]
    assert main([*arguments, "--check"]) == 1
    assert "old" in readme.read_text() and "stale" in capsys.readouterr().err
    assert main(arguments) == 0
    text = readme.read_text()
    assert text.startswith(f"# Title\n\n{BEGIN}\n| run |") and text.endswith(f"|\n{END}\n\nThe rest.\n")
    assert "[0](results/run0.json)" in text, "links are relative to the README"
    assert main([*arguments, "--check"]) == 0


@pytest.mark.parametrize("text", ["none", f"{BEGIN}", f"{END}\n{BEGIN}", f"{BEGIN}{BEGIN}{END}"])
def test_a_readme_without_its_markers_is_left_alone(results, tmp_path, text, capsys):
    (tmp_path / "README.md").write_text(text)
    assert main(["--results", str(results), "--readme", str(tmp_path / "README.md")]) == 2
    assert "expected one line" in capsys.readouterr().err
    assert (tmp_path / "README.md").read_text() == text


def workdir(tmp_path, **options):
    results = {**score(40), "dataset": "bouncing_balls", "seed": 3, "commit": "abc", "hardware": "1 x GPU"}
    lengths = [score(10, ari_stderr=0.01, seconds=1.0), score(40)]
    results |= {"train_seconds": 60.0, "seconds": 5.0, "lengths": lengths}
    config = {"data": {"variant": "color4", "options": options}, "eval": {"variant": ""}}
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "results.json").write_text(json.dumps(results))
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_a_finished_run_is_taken_up(results, tmp_path, capsys):
    folder = workdir(tmp_path)
    assert main(["--results", str(results), "--add", str(folder), "--name", "color4", "--command", "go"]) == 0
    assert "| color4 |" in capsys.readouterr().out
    (run,) = read_runs(results)
    assert run["path"].name == "color4-seed3.json"
    assert (run["dataset"], run["wall_seconds"], run["command"]) == ("bouncing_balls/color4", 60.0, "go")
    assert run["scores"] == [score(10, ari_stderr=0.01), score(40)]


def test_changed_data_options_make_another_dataset(tmp_path):
    entry = result_entry(workdir(tmp_path, image_size=32), "small")
    assert entry["dataset"] == "bouncing_balls/color4 (image_size=32)"


def test_an_unfinished_run_is_refused(results, tmp_path, capsys):
    folder = workdir(tmp_path)
    (folder / "results.json").unlink()
    assert main(["--results", str(results), "--add", str(folder), "--name", "color4"]) == 2
    assert "results.json: no such file" in capsys.readouterr().err
    assert [path.name for path in results.iterdir()] == ["published.json"]


@pytest.mark.parametrize("arguments", [["--add", "run"], ["--add", "run", "--name", "a/b"], ["--check"]])
def test_arguments_that_do_not_fit(arguments):
    with pytest.raises(SystemExit):
        main(arguments)


def test_the_shipped_files_make_a_table(pytestconfig, capsys):
    assert main(["--results", str(pytestconfig.rootpath / "results")]) == 0
    assert "| clevrer | STII | 10/20/30/40 | 0.2220/0.2403/0.2555/0.2681 |" in capsys.readouterr().out
