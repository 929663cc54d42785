"""Pages for tests without a model: random slots of small random videos."""

from html.parser import HTMLParser

import numpy as np
from ml_collections import ConfigDict

from stii_jax.config import load_config
from stii_jax.pretrained import Trained
from stii_jax.report.html.clips import Clip, make_clip
from stii_jax.report.html.document import render
from stii_jax.report.html.subject import Evaluation, Subject
from stii_jax.types import Decomposition

HOSTILE = "</script><img src=x onerror=alert(1)>&\"'$title"
SCORES = [
    {"num_frames": 10, "ari": 0.9, "ari_stderr": 0.01, "f_ari": 0.5, "mse": 0.002, "num_videos": 100},
    {"num_frames": 20, "ari": 0.8, "ari_stderr": 0.02, "f_ari": 0.7, "num_videos": 100},
]


class Reader(HTMLParser):
    """A parser that collects tags with their attributes, and the texts of scripts and styles."""

    def __init__(self, page: str):
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.texts: dict[str, list[str]] = {"script": [], "style": []}
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        if self.tags and self.tags[-1][0] in self.texts and self.cdata_elem:
            self.texts[self.tags[-1][0]].append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def random_decomposition(seed: int, num_frames: int, num_slots: int, size: int) -> Decomposition:
    """Return a random decomposition of one video, in which all slots have some weight everywhere."""
    random = np.random.default_rng(seed)
    logits = 3 * random.normal(size=(1, num_frames, num_slots, size, size)).astype(np.float32)
    masks = np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)
    means = random.uniform(size=(*masks.shape, 3)).astype(np.float32)
    return Decomposition(means, masks, np.zeros((1, num_frames, num_slots, 2), np.float32))


def random_clip(seed: int, num_frames: int = 7, num_slots: int = 3, size: int = 8, num_observed: int = 4) -> Clip:
    """Return a random clip, with true labels or, if the seed is odd, with responsibilities."""
    random = np.random.default_rng(seed + 100)
    video = random.integers(0, 256, (num_frames, size, size, 3), dtype=np.uint8)
    labels = random.integers(0, 4, (num_frames, size, size), dtype=np.uint8)
    decomposition = random_decomposition(seed, num_frames, num_slots, size)
    if seed % 2:
        other = random_decomposition(seed + 50, num_frames, num_slots, size)
        decomposition = decomposition._replace(responsibilities=other.masks)
    return make_clip(video, decomposition, None if seed % 2 else labels, num_observed)


def a_log(num_lines: int = 40) -> list[dict]:
    """Return the log of a run in two stages."""
    lines = [
        {"step": 10 * i, "time": i, "loss": -5.0 * i, "f_ari": i / 50, "num_frames": 1 if i < 20 else 4}
        for i in range(1, num_lines + 1)
    ]
    return [line | ({"eval_f_ari": 0.5} if line["step"] % 100 == 0 else {}) for line in lines]


def a_subject(text: str = "a run", **config: object) -> Subject:
    """Return a run in which every free text is `text`."""
    settings: ConfigDict = load_config("quickstart", [f"{key}={value}" for key, value in config.items()])
    facts = {"step": 5, "seed": 3, "commit": text, "hardware": text, "train_seconds": 754.0, "versions": {text: text}}
    evaluations = [Evaluation(f"test videos, {text}", 5, SCORES), Evaluation("predicted", 4, SCORES[:1])]
    return Subject(text, settings, Trained(settings, {}, facts), evaluations, a_log())


def a_page(text: str = "a run") -> tuple[str, list[Clip]]:
    """Return the page of such a run, and its videos. The second has neither true labels nor predicted frames."""
    clips = [random_clip(0), random_clip(1, num_observed=7)]
    return render(a_subject(text), clips), clips
