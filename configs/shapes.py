"""Shapes of six kinds at 64x64, for recordings of a static camera: one to six objects, seven slots, R = 3.

    python -m stii_jax.main --config shapes --workdir runs/shapes --init balls
    python -m stii_jax.main --config shapes:difference --workdir runs/difference --init balls

`difference` trains on the difference from the background, as `--background=median` shows a recording.

Hardware: one CPU core, 107 minutes. It starts from the included model `balls`; from random parameters it was not tried.
Expected over 20 frames of 48 test videos: ARI .51, F-ARI .65 (one seed). That is not good enough for an included model:
docs/datasets.md, "Training on shapes". `difference` takes 55 minutes: "Training on differences" there.
"""

from ml_collections import ConfigDict

from stii_jax.config import check_argument, load_config

_PLAIN = ("data.variant=plain", "data.options.surfaces=flat")
_HALF = ("data.options.image_size=32", "loss.kl=2.5")  # a quarter of the pixels, so a quarter of the KL's weight


def get_config(argument: str = "default") -> ConfigDict:
    """Return the config for `argument`: "default" or "difference"."""
    check_argument("shapes", argument, ("default", "difference"))
    config = load_config("balls:mixture").copy_and_resolve_references()
    options = {
        "num_objects": (1, 6),
        "kinds": "disc:2+ellipse:2+polygon:2+worm+insect+walker",
        "length": (0.12, 0.4),
        "contrast": (0.3, 0.8),
        "surfaces": "flat:2+shaded+textured",
        "backgrounds": "black+gray+color+graded",
        "brightness": (0.0, 0.5),  # with brighter backgrounds, the separation is lost
        "gray_share": 0.3,
        "leave_share": 0.3,
        "noise": (0.0, 0.02),
    }
    with config.unlocked():
        config.data.update(dataset="shapes", variant="default")
        config.data.options, config.eval.options = ConfigDict(options), ConfigDict()
    config.model.num_slots = 7
    # A soft mixture separates light shapes on black, then shapes on dark backgrounds. The exact likelihood comes last:
    # any earlier, it joins the shapes again.
    soft = ("model.temperature=10", "loss.mask_entropy=0", *_PLAIN, *_HALF)
    light = ("data.variant=white", "data.options.contrast=(0.5, 1.0)", "data.options.one_color_share=0.7")
    gray = ("data.options.gray_share=1", "data.options.surfaces=flat+shaded+textured", "data.options.backgrounds=black")
    white = (*soft, *light, *gray)
    dark = (*soft, "data.options.backgrounds=black:2+gray+color:2")
    exact = (*_PLAIN, *_HALF, "data.options.backgrounds=gray+color:2")
    config.curriculum.first = white
    config.data.num_frames, config.batch_size, config.train.num_steps = 1, 8, 300
    config.curriculum.stages = (
        *((4, 4, 1_000, *white), (12, 2, 300, *white), (1, 8, 500, *dark), (1, 8, 600, *exact)),
        *((4, 4, 1_400, *exact), (12, 2, 900, *exact), (4, 4, 1_300), (12, 2, 1_000)),
    )
    config.train.update(eval_every=7_300, checkpoint_every=100)
    config.eval.update(segmentation="masks", slot_cost=15.0, restarts=8, lengths=(10, 20))
    config.eval.update(num_videos=48, periodic_videos=8, batch_size=4)
    if argument == "difference":
        _difference(config)
    return config


def _difference(config: ConfigDict) -> None:
    """Train on differences from the background, with a soft mixture only: the exact likelihood joins the objects."""
    options = {
        **{"num_objects": (1, 6), "length": (0.12, 0.4), "difference": True},
        **{"num_frames": 160, "num_train": 4_000, "num_validation": 100, "num_test": 100},
    }
    with config.unlocked():
        config.data.options = ConfigDict(options)
    config.model.temperature, config.loss.mask_entropy = 10.0, 0.0
    config.curriculum.first = _HALF
    config.data.num_frames, config.batch_size, config.train.num_steps = 4, 4, 1_400
    config.curriculum.stages = ((12, 2, 500, *_HALF), (4, 4, 800), (12, 2, 400))
    config.train.update(eval_every=3_100)
    config.eval.update(slot_cost=0.0, num_videos=24)
