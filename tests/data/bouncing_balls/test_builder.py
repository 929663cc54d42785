"""The stored videos: the meaning of seeds and variants, and a comparison with R-NEM's own pixels."""

import itertools
from pathlib import Path

import numpy as np
import pytest

from stii_jax.data import resolve_config
from stii_jax.data.bouncing_balls import BouncingBalls, render
from stii_jax.data.errors import DataError


def videos(variant: str, split: str, tmp_path: Path, **options) -> tuple[BouncingBalls, list[dict]]:
    config = resolve_config("bouncing_balls", variant, options)
    builder = BouncingBalls(config=config, data_dir=str(tmp_path))
    return builder, list(builder.videos(split))


def same(first: list[dict], second: list[dict]) -> bool:
    return all(np.array_equal(a[key], b[key]) for a, b in zip(first, second) for key in a)


def test_a_seed_stands_for_its_videos(tmp_path):
    few = {"num_frames": 3, "num_train": 260}
    _, first = videos("mini", "train", tmp_path, **few)
    _, again = videos("mini", "train", tmp_path, **few)
    _, other = videos("mini", "train", tmp_path, seed=1, **few)
    assert same(first, again)
    assert not same(first, other)
    # The videos depend neither on their number nor on the sizes of other splits.
    _, longer = videos("mini", "train", tmp_path, num_frames=3, num_train=520, num_test=1)
    assert len(longer) == 520 and same(first, longer[:260])


def test_the_first_video_is_the_one_it_was(tmp_path):
    # Changing these numbers changes every user's data: raise `BouncingBalls.VERSION` with them.
    _, examples = videos("color4", "train", tmp_path, num_train=1)
    np.testing.assert_allclose(examples[0]["radii"], [0.796875] * 4)
    np.testing.assert_allclose(
        examples[0]["positions"][[0, 50], :2],
        [[[5.16471, 8.43086], [0.96902, 2.85945]], [[4.39967, 5.28628], [1.44756, 6.41302]]],
        atol=1e-3,
    )


def test_splits_and_blocks_share_no_video(tmp_path):
    options = {"num_frames": 2, "num_train": 520, "num_validation": 300, "num_test": 300}
    starts = [
        video["positions"][0].tobytes()
        for split in ("train", "validation", "test")
        for video in videos("mini", split, tmp_path, **options)[1]
    ]
    assert len(starts) == len(set(starts)) == 1120


@pytest.mark.parametrize(
    ("variant", "counts", "colors"),
    [
        ("binary4", {4}, [255]),
        ("binary678", {6, 7, 8}, [255]),
        ("color4", {4}, [227, 180, 138, 44]),
        ("color678_4colors", {6, 7, 8}, [227, 180, 138, 44, 227, 180, 138, 44]),
        ("color678_8colors", {6, 7, 8}, [227, 180, 138, 44, 153, 28, 111, 0]),
    ],
)
def test_variants_show_their_balls_in_their_colours(variant, counts, colors, tmp_path):
    builder, examples = videos(variant, "test", tmp_path, num_frames=2, num_test=50)
    assert {int((video["radii"] > 0).sum()) for video in examples} == counts
    for video in examples[:10]:
        clip = builder.decode(video, 0, 2)
        for ball in np.flatnonzero(video["radii"]):
            shown = clip["video"][clip["segmentation"] == ball + 1]
            assert len(shown) and (shown[:, 0] == colors[ball % len(colors)]).all()
        assert not clip["video"][clip["segmentation"] == 0].any()


def test_shuffled_colours_stand_for_no_ball_and_are_not_repeated(tmp_path):
    options = {"num_frames": 2, "num_train": 300, "palette": "vivid", "num_colors": 6, "shuffle_colors": True}
    _, examples = videos("mini", "train", tmp_path, **options)
    palette = {tuple(color) for color in render.PALETTES["vivid"][:6].tolist()}
    for ball in range(3):
        assert {tuple(video["colors"][ball].tolist()) for video in examples} == palette
    assert all(len({tuple(color) for color in video["colors"].tolist()}) == 3 for video in examples)


def test_random_backgrounds_are_shown_and_change_nothing_else(tmp_path):
    few = {"num_frames": 2, "num_train": 20}
    builder, examples = videos("mini", "train", tmp_path, random_background=True, **few)
    _, on_black = videos("mini", "train", tmp_path, **few)
    assert len({tuple(video["background"].tolist()) for video in examples}) == 20
    for video, black in zip(examples, on_black):
        assert video["background"].max() < 128 and not black["background"].any()
        assert all(np.array_equal(video[key], black[key]) for key in video if key != "background")
        clip = builder.decode(video, 0, 2)
        assert (clip["video"][clip["segmentation"] == 0] == video["background"]).all()


def test_shares_of_appearances_and_nothing_else(tmp_path):
    options = {"num_frames": 1, "num_train": 2048, "num_balls": (2, 2), "palette": "vivid", "num_colors": 6}
    options |= {"shuffle_colors": True, "random_background": True}
    shares = {"black_share": 0.3, "one_color_share": 0.25, "white_share": 0.1}
    _, plain = videos("mini", "train", tmp_path, **options)
    _, mixed = videos("mini", "train", tmp_path, **options, **shares)
    colors, backgrounds = (np.array([video[key] for video in mixed]) for key in ("colors", "background"))
    white = (colors == 255).all((1, 2)) & (backgrounds == 0).all(1)
    black, one_color = (backgrounds == 0).all(1), (colors[:, 0] == colors[:, 1]).all(1)
    # Draws are independent: a video is black by its background's share, or because it is one of the white ones.
    for found, share in ((white, 0.1), (black, 1 - 0.7 * 0.9), (one_color, 1 - 0.75 * 0.9)):
        assert abs(found.mean() - share) < 4 * np.sqrt(share * (1 - share) / len(mixed))
    for before, after in zip(plain, mixed):
        assert all(np.array_equal(before[key], after[key]) for key in ("positions", "radii"))
    as_before = ~(black | one_color)
    np.testing.assert_array_equal(np.array([video["colors"] for video in plain])[as_before], colors[as_before])


@pytest.mark.parametrize("share", ["black_share", "one_color_share", "white_share"])
def test_a_share_is_from_nought_to_one(share):
    with pytest.raises(DataError, match=f"option {share}=1.5 of .*: give 0 to 1"):
        resolve_config("bouncing_balls", "mini", {share: 1.5})


def test_a_smaller_box_keeps_the_balls_in_pixels(tmp_path):
    builder, examples = videos("mini", "test", tmp_path, num_frames=2, num_test=20)
    for video in examples:
        masks = builder.decode(video, 0, 1)["segmentation"]
        areas = np.bincount(masks.ravel(), minlength=4)[1:]
        for area, radius in zip(areas, video["radii"]):
            assert area == pytest.approx(np.pi * (6.4 * radius) ** 2, rel=0.08)


def test_a_margin_shows_the_middle_of_the_box(tmp_path):
    """Balls are therefore partly in the frame, leave it and come back."""
    options = {"num_frames": 40, "num_test": 20, "box_size": 8.0, "num_balls": (3, 3)}
    whole, examples = videos("mini", "test", tmp_path / "whole", image_size=64, **options)
    middle, same_examples = videos("mini", "test", tmp_path / "middle", image_size=32, margin=2.0, **options)
    assert same(examples, same_examples)
    num_visible = set()
    for video in examples:
        expected = whole.decode(video, 0, 40)
        shown = middle.decode(video, 0, 40)
        for key in ("video", "segmentation"):
            np.testing.assert_array_equal(shown[key], expected[key][:, 16:48, 16:48])
        num_visible |= {len(set(frame.ravel()) - {0}) for frame in shown["segmentation"]}
    assert num_visible == {0, 1, 2, 3}


def test_a_screen_hides_the_balls_behind_it(tmp_path):
    options = {"num_frames": 40, "num_test": 20, "random_background": True}
    plain, examples = videos("mini", "test", tmp_path / "plain", **options)
    hidden, same_examples = videos("mini", "test", tmp_path / "hidden", screen=2.5, **options)
    assert same(examples, same_examples)
    for video in examples:
        expected, shown = plain.decode(video, 0, 40), hidden.decode(video, 0, 40)
        assert not shown["segmentation"][:, :, 8:24].any() and expected["segmentation"][:, :, 8:24].any()
        assert (shown["video"][:, :, 8:24] == video["background"]).all()
        for key in ("video", "segmentation"):
            np.testing.assert_array_equal(
                np.delete(shown[key], range(8, 24), 2), np.delete(expected[key], range(8, 24), 2)
            )


def track(masks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return areas `T K` and centres `T K 2` of the labels of `T H W`, in pixels."""
    grid = np.stack(np.meshgrid(*[np.arange(masks.shape[-1]) + 0.5] * 2), axis=-1)
    inside = masks[:, None] == np.arange(1, masks.max() + 1)[:, None, None]
    pixels = inside.reshape(*inside.shape[:2], -1).astype(np.float32)
    areas = pixels.sum(-1)
    return areas, pixels @ grid.reshape(-1, 2).astype(np.float32) / areas[..., None]


def describe(clips: list[np.ndarray]) -> dict[str, float]:
    tracks = [track(masks) for masks in clips]
    areas = np.concatenate([np.median(areas, axis=0) for areas, _ in tracks])
    speeds = [np.linalg.norm(np.diff(centres, axis=0), axis=-1).mean() for _, centres in tracks]
    gaps = []
    for sizes, centres in tracks:
        radii = np.where(np.median(sizes, axis=0) > 105, 6.4, 5.1)
        for one, two in itertools.combinations(range(len(radii)), 2):
            distance = np.linalg.norm(centres[:, one] - centres[:, two], axis=-1)
            gaps.append((distance - radii[one] - radii[two]).min())
    return {
        "small area": float(np.median(areas[areas < 105])),
        "large area": float(np.median(areas[areas > 105])),
        "slowest video": float(min(speeds)),
        "mean speed": float(np.mean(speeds)),
        "fastest video": float(max(speeds)),
        "smallest gap": float(min(gaps)),
        "balls": float(np.mean([masks.max() for masks in clips])),
    }


def test_statistics_of_real_videos(samples, tmp_path):
    h5py = pytest.importorskip("h5py")
    path = samples / "rnem" / "balls4mass64_gif.h5"
    if not path.exists():
        pytest.skip(f"no {path}")
    with h5py.File(path) as file:
        groups = [file[split]["groups"][..., 0] for split in ("training", "validation", "test")]
    real_clips = [clip for split in groups for clip in split.swapaxes(0, 1)]
    builder, examples = videos("binary4", "validation", tmp_path, num_validation=100)
    clips = [builder.decode(video, 0, 51)["segmentation"] for video in examples]
    real, ours = describe(real_clips), describe(clips)
    for name in real:
        print(f"{name:>14}: real {real[name]:7.2f}, ours {ours[name]:7.2f}")

    assert ours["small area"] == pytest.approx(real["small area"], abs=1)
    assert ours["large area"] == pytest.approx(real["large area"], abs=1)
    assert ours["mean speed"] == pytest.approx(real["mean speed"], rel=0.15)
    assert ours["slowest video"] == pytest.approx(real["slowest video"], abs=0.2)
    assert ours["fastest video"] == pytest.approx(real["fastest video"], abs=0.2)
    assert ours["smallest gap"] == pytest.approx(real["smallest gap"], abs=0.5)
    assert ours["balls"] == real["balls"] == 4


def test_discs_lie_on_real_discs(samples):
    h5py = pytest.importorskip("h5py")
    path = samples / "rnem" / "balls4mass64_gif.h5"
    if not path.exists():
        pytest.skip(f"no {path}")
    with h5py.File(path) as file:
        clip = file["validation"]["groups"][:, 0, :, :, 0]
    areas, centres = track(clip)
    radii = np.where(np.median(areas, axis=0) > 105, 6.4, 5.1)
    ours = render.render_masks(centres, radii, 64)
    overlap = ((ours > 0) & (clip > 0)).sum() / ((ours > 0) | (clip > 0)).sum()
    print(f"overlap with real masks: {overlap:.4f}")
    assert overlap > 0.97
