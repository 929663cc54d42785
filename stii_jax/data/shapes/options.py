"""The options of the shapes dataset."""

import dataclasses

import numpy as np
from jaxtyping import Float

from stii_jax.data.errors import DataError, unknown
from stii_jax.data.options import GeneratedConfig
from stii_jax.data.video.view import View

CHOICES: dict[str, tuple[str, ...]] = {
    "kinds": ("disc", "ellipse", "polygon", "worm", "insect", "walker"),
    "surfaces": ("flat", "shaded", "textured"),
    "backgrounds": ("black", "gray", "color", "graded", "textured", "scenery"),
    "motions": ("inertial", "turning", "stopping"),
    "orientations": ("heading", "upright", "free"),
}
"""The names that an option may list. Stored videos refer to a name by its index."""

RANGES: dict[str, tuple[float, float]] = {
    "length": (0.02, 0.8),
    "contrast": (0.02, 1.0),
    "brightness": (0.0, 1.0),
    "pattern": (0.0, 1.0),
    "speed": (0.0, 0.2),
    "turning": (0.0, 1.5),
    "stopped": (0.0, 0.95),
    "margin": (0.0, 2.0),
    "shadow": (0.0, 1.0),
    "vignette": (0.0, 1.0),
    "flicker": (0.0, 0.5),
    "noise": (0.0, 0.5),
    "compression": (0.0, 128.0),
}
"""The bounds of each option that is a range."""


@dataclasses.dataclass(eq=False, kw_only=True)
class ShapesConfig(GeneratedConfig):
    """Options of the shapes dataset.

    Each video draws its properties independently. Options that are ranges are drawn uniformly; a `_share` is a
    probability. Lengths are fractions of the frame's side, so frames of another size show the same scenes. Brightness
    is from 0 (black) to 1. An option that lists names, such as `kinds`, separates them by "+", in any order. Each name
    is equally likely, unless weights are given: "disc:3+worm:1".
    """

    num_frames: int = 40
    num_train: int = 20_000
    num_validation: int = 200
    num_test: int = 1_000

    num_objects: tuple[int, int] = (1, 6)
    """Minimum and maximum number of objects in a video; each count is equally likely."""
    kinds: str = "disc+ellipse+polygon+worm+insect+walker"
    """Kinds of objects. Polygons are convex and have 3 to 6 corners. Worms bend. Insects have six or eight legs and
    often wings. Walkers have a head and two legs."""
    one_kind_share: float = 0.8
    """Fraction of videos whose objects all have the same kind and shape, and differ only in size and colour."""
    length: tuple[float, float] = (0.12, 0.35)
    """Range of an object's longest extent, with a log-uniform distribution."""
    length_spread: float = 0.3
    """Largest relative difference between an object's length and its video's typical length."""
    one_color_share: float = 0.5
    """Fraction of videos whose objects all have the same colours."""
    contrast: tuple[float, float] = (0.2, 0.8)
    """Range of the root-mean-square difference between an object's colour and the background's mean colour. If the
    background leaves no room for this difference, objects are black or white."""
    surfaces: str = "flat+shaded+textured"
    """Surfaces of objects: uniform, brighter in the middle and towards a light, or two-coloured."""

    backgrounds: str = "black+gray+color+graded+textured+scenery"
    """Backgrounds: black; one shade of grey; one colour; a gradient; a random texture; or areas with edges and static
    things."""
    brightness: tuple[float, float] = (0.0, 1.0)
    """Minimum and maximum brightness of backgrounds, of each channel, except black ones. Shadows, vignettes and the
    sensor may change it."""
    pattern: tuple[float, float] = (0.15, 0.6)
    """Strength of gradients, textures and areas: the distance of their extremes from the mean colour, as a fraction of
    the way to a random brightness."""
    shadow_share: float = 0.2
    """Fraction of videos in which objects cast soft shadows on the background."""
    shadow: tuple[float, float] = (0.2, 0.6)
    """Fraction of the light that a shadow blocks."""
    vignette_share: float = 0.3
    """Fraction of videos whose corners are darker than the middle."""
    vignette: tuple[float, float] = (0.1, 0.6)
    """Fraction of the light that is missing in the corners."""
    gray_share: float = 0.4
    """Fraction of videos in shades of grey."""
    noise: tuple[float, float] = (0.0, 0.03)
    """Standard deviation of the sensor's noise in each pixel and channel."""
    flicker: tuple[float, float] = (0.0, 0.03)
    """Standard deviation of the relative brightness of frames, from frame to frame or as a slow drift."""
    compression_share: float = 0.3
    """Fraction of videos with compression artefacts."""
    compression: tuple[float, float] = (3.0, 15.0)
    """Quantization step of the coefficients of 4x4 blocks, in 8-bit levels; larger steps lose more detail."""

    motions: str = "inertial+turning+stopping"
    """Motions: in straight lines; at constant speed in randomly changing directions; or the latter with stops."""
    speed: tuple[float, float] = (0.004, 0.03)
    """Range of the typical speed of a video's objects, in frame sides per frame. Each object is up to 50% slower or
    faster."""
    turning: tuple[float, float] = (0.05, 0.3)
    """Standard deviation of the change of direction per frame, in radians, for objects that turn or stop."""
    stopped: tuple[float, float] = (0.2, 0.7)
    """Fraction of frames at rest, for objects that stop."""
    orientations: str = "heading:2+upright+free"
    """Orientations: along the direction of motion, with the head up, or constant at a random angle."""
    collide_share: float = 0.5
    """Fraction of videos whose objects bounce off one another; in the others they occlude one another."""
    leave_share: float = 0.4
    """Fraction of videos whose objects leave and enter the frame; in the others they turn back at its edges."""
    margin: tuple[float, float] = (0.1, 0.4)
    """Distance from the frame at which objects that left it turn back."""

    difference: bool = False
    """True if frames show the difference from the median over the video, as `--background=median` does. An object that
    rests in one place for more than half of the video is part of the median, so videos should be long."""

    @property
    def view(self) -> View:
        """See `VideoConfig.view`. A model of differences sees recordings without their background where it can."""
        return View(size=self.image_size, square=True, background="auto" if self.difference else "keep")

    @property
    def max_objects(self) -> int:
        """Maximum number of objects in a video."""
        return self.num_objects[1]

    def weights(self, option: str) -> Float[np.ndarray, " N"]:
        """The probabilities of the names of `CHOICES[option]`.

        Raises:
            DataError: an unknown name, a weight that is not a positive number, or no name.
        """
        known = CHOICES[option]
        weights = np.zeros(len(known))
        for part in getattr(self, option).split("+"):
            name, _, weight = part.strip().partition(":")
            if name not in known:
                raise unknown(f"name for option {option}", name, known)
            try:
                weights[known.index(name)] += float(weight or 1)
            except ValueError:
                weights[known.index(name)] = np.nan
        if not (np.isfinite(weights).all() and (weights >= 0).all() and weights.any()):
            value = getattr(self, option)
            raise DataError(f"option {option}={value!r} of {self.name}: give positive weights, as in {known[0]}:2")
        return weights / weights.sum()

    def validate(self) -> None:
        """See `VideoConfig.validate`."""
        super().validate()
        self._count_range(20, "num_objects")
        self._multiple_of(4, "image_size")
        for option, (low, high) in RANGES.items():
            value = getattr(self, option)
            if not low <= value[0] <= value[1] <= high:
                raise DataError(f"option {option}={value} of {self.name}: give (lowest, highest), {low} to {high}")
        shares = [field.name for field in dataclasses.fields(self) if field.name.endswith("_share")]
        for option in (*shares, "length_spread"):
            if not 0 <= getattr(self, option) <= 1:
                raise DataError(f"option {option}={getattr(self, option)} of {self.name}: give 0 to 1")
        for option in CHOICES:
            self.weights(option)
