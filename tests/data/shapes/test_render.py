"""Frames and masks: they agree, objects occlude one another in order, and camera artefacts have the given size."""

import numpy as np
import pytest

from stii_jax.data import resolve_config
from stii_jax.data.shapes.options import CHOICES
from stii_jax.data.shapes.render import render
from stii_jax.data.shapes.scene import Scene, draw_scenes

RED, GREEN, BLUE = np.eye(3)


def draw(number=30, variant="white", **options):
    """Draw scenes of white shapes on black with a perfect camera, unless the options differ."""
    config = resolve_config("shapes", variant, {"num_frames": 6, **options})
    scenes = draw_scenes(np.random.default_rng(0), number, config)
    return [Scene(*(values[index] for values in scenes)) for index in range(number)]


def still(places, colors, kind="disc", length=0.25, **fields):
    """Make a scene of one frame with equal objects at places `K 2`, the nearest last."""
    scene = draw(1, "plain", num_frames=1, num_objects=(len(places), len(places)), kinds=kind, backgrounds="black")[0]
    colors = np.repeat(np.array(colors, np.float32)[:, None], 2, axis=1)
    return scene._replace(
        positions=np.array(places, np.float32)[None],
        lengths=np.full(len(places), length, np.float32),
        angles=np.zeros((1, len(places)), np.float32),
        colors=colors,
        gray=np.array(False),
        **fields,
    )


@pytest.mark.parametrize("kind", CHOICES["kinds"])
def test_masks_agree_with_the_picture(kind):
    """White flat shapes on black: a pixel is in a mask if it is more than half white."""
    seen = 0
    for scene in draw(kinds=kind, leave_share=1.0):
        video, masks = render(scene, 0, 6, 64)
        bright, labelled = video[..., 0] > 127, masks > 0
        # Objects that each cover part of a pixel on an outline may together cover more than half of it.
        assert not (labelled & ~bright).any()
        assert (bright & ~labelled).sum() <= 0.03 * labelled.sum()
        assert video[masks == 0].mean() < 12
        seen += labelled.sum()
    assert seen > 10_000


def test_a_disc_by_hand():
    video, masks = render(still([(0.5, 0.25)], [RED], length=0.5), 0, 1, 32)
    x, y = np.meshgrid(np.arange(32) + 0.5, np.arange(32) + 0.5)
    distance = np.hypot(x - 16, y - 8) - 8
    np.testing.assert_array_equal(masks[0], distance < 0)
    np.testing.assert_allclose(video[0, ..., 0], 255 * np.clip(0.5 - distance, 0, 1), atol=1)
    assert not video[..., 1:].any()


@pytest.mark.parametrize("center", [(0.5, 0.5), (0.503, 0.4911), (0.61, 0.377)])
def test_light_is_as_large_as_the_area(center):
    video, _ = render(still([center], [RED]), 0, 1, 64)
    assert video[0, ..., 0].sum() / 255 == pytest.approx(np.pi * 8**2, rel=0.005)


def test_nearer_objects_hide_those_behind():
    scene = still([(0.4, 0.5), (0.5, 0.5), (0.6, 0.5)], [RED, GREEN, BLUE])
    alone = [render(still([place], [RED]), 0, 1, 64)[1][0] > 0 for place in scene.positions[0]]
    video, masks = render(scene, 0, 1, 64)
    expected = np.where(alone[2], 3, np.where(alone[1], 2, np.where(alone[0], 1, 0)))
    np.testing.assert_array_equal(masks[0], expected)
    assert (masks == 1).sum() < (masks == 2).sum() < (masks == 3).sum() == alone[0].sum()
    inner = masks[0, 32]  # along the row through the centres, except for the outlines
    changes = np.flatnonzero(np.diff(inner))
    sure = np.setdiff1d(np.arange(64), np.concatenate([changes, changes + 1]))
    colors = np.concatenate([np.zeros((1, 3)), [RED, GREEN, BLUE]])
    np.testing.assert_array_equal(video[0, 32, sure], 255 * colors[inner[sure]])


def test_hidden_or_outside_pixels_are_in_no_mask():
    behind = still([(0.5, 0.5), (0.5, 0.5)], [RED, GREEN])
    assert set(np.unique(render(behind, 0, 1, 64)[1])) == {0, 2}
    for place in ((-0.2, 0.5), (0.5, 1.2), (-3.0, 7.0)):
        video, masks = render(still([place], [RED]), 0, 1, 64)
        assert not video.any() and not masks.any()
    whole, half = (render(still([place], [RED]), 0, 1, 64)[1].sum() for place in ((0.5, 0.5), (0.0, 0.5)))
    assert half == whole / 2


def test_objects_leave_and_enter():
    areas = []
    for scene in draw(number=40, num_frames=40, leave_share=1.0, speed=(0.03, 0.03), margin=(0.1, 0.1)):
        masks = render(scene, 0, 40, 64)[1]
        areas += [(masks == k + 1).sum((1, 2)) > 0 for k in range((scene.kinds >= 0).sum())]
    seen = np.array(areas)
    assert (seen[:, :-1] & ~seen[:, 1:]).any(1).mean() > 0.2 and (~seen[:, :-1] & seen[:, 1:]).any(1).mean() > 0.2
    for scene in draw(number=20, leave_share=0.0, kinds="disc+ellipse", num_objects=(1, 1)):
        assert (render(scene, 0, 6, 64)[1] > 0).any((1, 2)).all()


def test_objects_are_turned_along_their_angle():
    for angle in (0.0, 0.7, 2.5):
        scene = still([(0.5, 0.5)], [RED], "ellipse", 0.5)._replace(angles=np.full((1, 1), angle, np.float32))
        rows, columns = np.nonzero(render(scene, 0, 1, 64)[1][0])
        _, axes = np.linalg.eigh(np.cov(columns, rows))
        assert abs(axes[:, 1] @ (np.cos(angle), np.sin(angle))) > 0.999


def test_a_frame_does_not_depend_on_the_others():
    for scene in draw(8, "default"):
        video, masks = render(scene, 0, 6, 32)
        late_video, late_masks = render(scene, 4, 2, 32)
        np.testing.assert_array_equal(late_video, video[4:])
        np.testing.assert_array_equal(late_masks, masks[4:])


def test_frames_of_half_the_size_show_the_same():
    for scene in draw(20, "plain"):
        (large, _), (small, _) = render(scene, 0, 6, 64), render(scene, 0, 6, 32)
        shrunk = large.reshape(6, 32, 2, 32, 2, 3).mean((2, 4))
        assert np.abs(shrunk - small).mean() < 3


def test_gray_videos_have_equal_channels():
    for gray in (0.0, 1.0):
        options = {"gray_share": gray, "compression_share": 1.0, "noise": (0.02, 0.02), "vignette_share": 1.0}
        spreads = [np.ptp(render(scene, 0, 6, 32)[0], axis=-1).max() for scene in draw(10, "default", **options)]
        assert max(spreads) == 0 if gray else min(spreads) > 0


def test_flat_surfaces_have_one_colour_and_the_others_more():
    for number, surface in enumerate(CHOICES["surfaces"]):
        scene = still([(0.5, 0.5)], [RED], length=0.6, surface=np.array(number))
        scene.colors[0, 1] = GREEN
        video, masks = render(scene, 0, 1, 64)
        inner = video[0][12:52, 12:52][masks[0, 12:52, 12:52] > 0]
        red, green = (np.unique(inner[:, channel]).size for channel in (0, 1))
        if surface == "flat":
            assert (inner == (255, 0, 0)).all(-1).mean() > 0.9
        else:
            assert red > 10 and (green > 10) == (surface == "textured")


def test_shaded_objects_are_brightest_inside():
    scene = still([(0.5, 0.5)], [RED], length=0.6, surface=np.array(CHOICES["surfaces"].index("shaded")))
    light = render(scene, 0, 1, 64)[0][0, ..., 0].astype(float)
    assert light[32, 32] > 1.3 * light[[32, 32, 14, 50], [14, 50, 32, 32]].mean() > 0


def test_shadows_darken_the_background_alone():
    place = [(0.4, 0.4)]
    gray = np.full((2, 3), 0.6, np.float32)
    fields = {"background": np.array(1), "background_colors": gray}
    plain, masks = render(still(place, [RED], **fields), 0, 1, 64)
    shadow = np.array([0.5, 0.3, 0.3, 0.2], np.float32)
    shaded, same_masks = render(still(place, [RED], shadow=shadow, **fields), 0, 1, 64)
    np.testing.assert_array_equal(same_masks, masks)
    inner = (plain == (255, 0, 0)).all(-1)  # all except the outline
    assert inner.sum() > 150
    np.testing.assert_array_equal(shaded[inner], plain[inner])
    darker = plain[0, ..., 1].astype(int) - shaded[0, ..., 1]
    assert darker.min() == 0 and darker.max() == pytest.approx(0.5 * 0.6 * 255, abs=1)
    rows, columns = np.nonzero(darker * (masks[0] == 0))
    assert rows.mean() > 25.6 and columns.mean() > 25.6, "to the right and below"
    assert np.unique(darker).size > 20, "its edge is soft"


def test_noise_and_flicker_are_as_large_as_told():
    fields = {"background": np.array(1), "background_colors": np.full((2, 3), 0.5, np.float32)}
    scene = still([(-1.0, -1.0)], [RED], noise=np.array(0.04, np.float32), **fields)
    video = render(scene, 0, 1, 64)[0].astype(float) / 255
    assert video.std() == pytest.approx(0.04, rel=0.05) and video.mean() == pytest.approx(0.5, abs=0.003)
    flicker = np.array([1.2, 0.8], np.float32)
    tracks = {key: getattr(scene, key).repeat(2, axis=0) for key in ("positions", "angles", "phases")}
    bright, dark = render(scene._replace(brightness=flicker, noise=np.float32(0), **tracks), 0, 2, 64)[0]
    np.testing.assert_array_equal(bright, round(0.6 * 255))
    np.testing.assert_array_equal(dark, round(0.4 * 255))


def test_compression_costs_detail_and_keeps_the_masks():
    for scene in draw(6, "default", noise=(0.0, 0.0), compression_share=0.0):
        clean, masks = render(scene, 0, 6, 32)
        coarse, same_masks = render(scene._replace(compression=np.float32(20)), 0, 6, 32)
        np.testing.assert_array_equal(same_masks, masks)
        error = np.abs(coarse.astype(int) - clean)
        assert 0 < error.mean() < 12
