"""The models that come with the package: their cards, and their scores with today's code."""

import json
import re
from pathlib import Path

import as_main
import pytest

from stii_jax import pretrained
from stii_jax.config import differences
from stii_jax.main import run
from stii_jax.pretrained.cards import model_card
from stii_jax.storage.digests import digest_leaves


def test_the_cards_are_in_the_docs():
    text = (Path(__file__).resolve().parents[2] / "docs" / "pretrained.md").read_text()
    _, shown, _ = re.split(r"<!-- cards:\w+ -->\n", text)
    assert shown.strip() == "\n\n".join(map(model_card, pretrained.names()))


@pytest.mark.parametrize("name", pretrained.names())
def test_every_model_has_a_card_and_comes_from_a_commit(name):
    assert pretrained.find(name).with_suffix(".md").is_file()
    facts = pretrained.load(name).facts
    assert re.fullmatch(r"[0-9a-f]{40}", facts["commit"]) and facts["dirty"] is False
    assert pretrained.find(name).stat().st_size < 5e6
    assert facts["results"]["lengths"] and facts["prediction"]["lengths"]


def test_the_general_model_is_balls_with_another_view():
    balls, general = (pretrained.load(name) for name in ("balls", "general"))
    assert differences(balls.config, general.config) == ["eval.background: saved '', given 'auto'"]
    assert digest_leaves(balls.params) == digest_leaves(general.params)


def test_names_of_cards():
    with pytest.raises(SystemExit, match=r"^error: no model 'quikstart'; nearest: quickstart"):
        as_main.run("stii_jax.pretrained", "quikstart")


@pytest.mark.slow
def test_the_quickstart_still_scores_what_its_card_says(tmp_path):
    """Scores with today's code, on eight of the hundred videos."""
    settings = [f"data.data_dir={tmp_path / 'data'}", "eval.num_videos=8", "eval.batch_size=8", "eval.num_pictures=0"]
    run("evaluate", None, tmp_path / "scores", [*settings, "eval.lengths=(10,)"], model="quickstart")
    scores = json.loads((tmp_path / "scores" / "results.json").read_text())
    (of_card,) = (s for s in pretrained.load("quickstart").facts["results"]["lengths"] if s["num_frames"] == 10)
    assert scores["f_ari"] == pytest.approx(of_card["f_ari"], abs=0.03)
    assert scores["video_f_ari"] == pytest.approx(of_card["video_f_ari"], abs=0.03)
