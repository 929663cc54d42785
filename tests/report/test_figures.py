"""The figures of a report: learning curves."""

import math

import numpy as np
import pytest
from matplotlib.figure import Figure
from test_report_page import of_sweep, put

from stii_jax.report.collect import collect
from stii_jax.report.figures import NUM_BINS, binned, curves_figure, draw_curve
from stii_jax.report.seeds import experiments


def test_curves_are_averaged_in_parts_of_training():
    curve = [{"step": i + 1, "loss": float(i), "num_frames": 2} for i in range(6 * NUM_BINS)]
    points = binned([*curve, {"step": 400, "loss": None}, {"step": 500}], "loss")
    assert len(points) == NUM_BINS and (np.diff(points[:, 0]) > 0).all()
    assert points[0, 1] == pytest.approx(np.mean([i / 2 for i in range(5)])), "a frame; up to step 5 of 360"
    np.testing.assert_allclose(points[:, 1], (points[:, 0] - 1) / 2)
    np.testing.assert_equal(binned([{"step": 3, "ari": 0.5}, {"step": 4, "ari": math.nan}], "ari"), [[3, 0.5]])
    assert binned([], "ari").shape == (0, 2)


def test_a_curve_of_one_point_is_visible(tmp_path):
    """One evaluation during training: a dot, and a line that spans the seeds."""
    points = [{"step": step, "ari": 0.1 * step} for step in (1, 2, 3)]
    put(
        tmp_path,
        *(of_sweep("a", seed, curve=[*points, {"step": 3, "eval_f_ari": 0.5 + 0.2 * seed}]) for seed in (0, 1)),
    )
    (experiment,) = experiments(collect(tmp_path).runs)
    for key, marker, line in (("eval_f_ari", "o", [[3, 0.6]]), ("ari", "None", [[1, 0.1], [2, 0.2], [3, 0.3]])):
        axes = Figure().subplots()
        draw_curve(axes, experiment, key, 0)
        assert axes.lines[0].get_marker() == marker
        np.testing.assert_allclose(axes.lines[0].get_xydata(), line)
        (span,) = axes.collections
        if marker == "o":
            np.testing.assert_allclose(span.get_segments(), [[[3, 0.5], [3, 0.7]]])


def test_losses_of_other_kinds_share_no_axes(tmp_path):
    """With losses alone, there is a figure if they are comparable, and none otherwise."""
    curve = [{"step": step, "loss": 1.0 / step} for step in (1, 2, 3)]
    put(tmp_path, of_sweep("a", 0, curve=curve), of_sweep("b", 0, order=1, curve=curve))
    assert curves_figure(experiments(collect(tmp_path).runs)) is not None
    own = {"system": "rnem", "rnem": {"num_slots": 3}}
    put(tmp_path, of_sweep("c", 0, order=2, curve=curve, config=own))
    assert curves_figure(experiments(collect(tmp_path).runs)) is None
