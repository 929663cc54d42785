"""The options of the dataset, and their meaning."""

import dataclasses

import numpy as np
from jaxtyping import Float

from stii_jax.data.errors import DataError, unknown
from stii_jax.data.options import GeneratedConfig

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
    """Each video draws its properties independently, uniformly from a range or with the probability of a share.

    Lengths are fractions of the frame's side, so that frames of another size show the same scenes. Brightness is from 0
    (black) to 1. An option that lists names, such as `kinds`, gives them in any order, separated by "+". Each name is
    equally likely, unless weights are given: "disc:3+worm:1".
    """

    num_frames: int = 40
    num_train: int = 20_000
    num_validation: int = 200
    num_test: int = 1_000

    num_objects: tuple[int, int] = (1, 6)
    """Fewest and most objects of a video; each count is equally likely."""
    kinds: str = "disc+ellipse+polygon+worm+insect+walker"
    """Kinds of objects. Polygons are convex and have 3 to 6 corners. Worms bend. Insects have six or eight legs and
    often wings, walkers a head and two legs."""
    one_kind_share: float = 0.8
    """Share of the videos whose objects all have one kind and shape, and differ in size and colour alone."""
    length: tuple[float, float] = (0.12, 0.35)
    """Range of an object's longest extent; small ones are as likely as large ones on a logarithmic scale."""
    length_spread: float = 0.3
    """Largest relative difference between an object's length and its video's typical length."""
    one_color_share: float = 0.5
    """Share of the videos whose objects all have the same colours."""
    contrast: tuple[float, float] = (0.2, 0.8)
    """Range of the root-mean-square difference between an object's colour and the mean colour of the background. Where
    the background leaves less room, objects are black or white."""
    surfaces: str = "flat+shaded+textured"
    """Surfaces of objects: of one brightness, brighter in the middle and towards a light, or in two colours."""

    backgrounds: str = "black+gray+color+graded+textured+scenery"
    """Backgrounds: black; one shade of grey; one colour; a gradient; a random texture; or areas with edges and static
    things."""
    pattern: tuple[float, float] = (0.15, 0.6)
    """Strength of gradients, textures and areas: how far their extremes are from the mean colour, on the way to a
    random brightness."""
    shadow_share: float = 0.2
    """Share of the videos in which objects cast soft shadows on the background."""
    shadow: tuple[float, float] = (0.2, 0.6)
    """Share of the light that a shadow takes away."""
    vignette_share: float = 0.3
    """Share of the videos whose corners are darker than the middle."""
    vignette: tuple[float, float] = (0.1, 0.6)
    """Share of the light that is missing in the corners."""
    gray_share: float = 0.4
    """Share of the videos in shades of grey."""
    noise: tuple[float, float] = (0.0, 0.03)
    """Standard deviation of the sensor's noise in each pixel and channel."""
    flicker: tuple[float, float] = (0.0, 0.03)
    """Standard deviation of the relative brightness of frames, from frame to frame or as a slow drift."""
    compression_share: float = 0.3
    """Share of the videos with artefacts of compression."""
    compression: tuple[float, float] = (3.0, 15.0)
    """Quantization step of the coefficients of 4x4 blocks, in 8-bit levels; larger ones lose more detail."""

    motions: str = "inertial+turning+stopping"
    """Motions: in straight lines; at constant speed in randomly changing directions; or like that with stops."""
    speed: tuple[float, float] = (0.004, 0.03)
    """Range of the typical speed of a video's objects, in sides per frame. Each object is up to a half slower or
    faster."""
    turning: tuple[float, float] = (0.05, 0.3)
    """Standard deviation of the change of direction per frame, in radians, of objects that turn or stop."""
    stopped: tuple[float, float] = (0.2, 0.7)
    """Share of the frames in which an object with stops rests."""
    orientations: str = "heading:2+upright+free"
    """Orientations: along the direction of motion, all with the head up, or any constant one."""
    collide_share: float = 0.5
    """Share of the videos whose objects bounce off one another; in the others they pass in front of one another."""
    leave_share: float = 0.4
    """Share of the videos whose objects leave the frame and enter it; in the others they turn back at its edges."""
    margin: tuple[float, float] = (0.1, 0.4)
    """Distance from the frame at which objects that leave it turn back."""

    @property
    def max_objects(self) -> int:
        """Maximum number of objects in a video."""
        return self.num_objects[1]

    def weights(self, option: str) -> Float[np.ndarray, " N"]:
        """The probabilities of the names of `CHOICES[option]`.

        Raises:
            DataError: an unknown name, a weight that is no positive number, or no name.
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
                raise DataError(f"option {option}={value} of {self.name}: give (least, greatest), {low} to {high}")
        shares = [field.name for field in dataclasses.fields(self) if field.name.endswith("_share")]
        for option in (*shares, "length_spread"):
            if not 0 <= getattr(self, option) <= 1:
                raise DataError(f"option {option}={getattr(self, option)} of {self.name}: give 0 to 1")
        for option in CHOICES:
            self.weights(option)
