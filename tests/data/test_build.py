"""The command that builds a dataset."""

import pytest

from stii_jax.data import build


def run(tmp_path, *arguments, dataset="bouncing_balls", variant="mini"):
    build.main(["--dataset", dataset, "--variant", variant, "--data_dir", str(tmp_path), *arguments])


def test_reports_the_built_dataset(tmp_path, capsys):
    run(tmp_path, "--options", '{"num_train": 4, "num_validation": 2, "num_test": 3, "num_frames": 2}')
    out = capsys.readouterr().out
    assert "videos of 2 frames, 32x32, up to 3 objects; train 4, validation 2, test 3" in out
    assert "MB in " + str(tmp_path) in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--options", "{"], "error: --options '{' is not JSON"),
        (["--options", "[1]"], "error: --options .* is not a JSON object"),
        (["--options", '{"sed": 1}'], "error: unknown option .* did you mean 'seed'"),
    ],
)
def test_bad_options(tmp_path, arguments, message):
    with pytest.raises(SystemExit, match=message):
        run(tmp_path, *arguments)
