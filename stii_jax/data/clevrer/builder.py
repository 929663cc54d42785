"""The CLEVRER dataset: its variants, and the stored parts of the recordings."""

import dataclasses
import functools
import itertools
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
from jaxtyping import UInt8

from stii_jax.data.clevrer import link, mask_video
from stii_jax.data.clevrer.annotations import Scene, read_scene
from stii_jax.data.clevrer.locate import PARTS, Found, Locator, source
from stii_jax.data.clevrer.proposals import read_detections
from stii_jax.data.errors import DataError, unknown
from stii_jax.data.options import VideoConfig
from stii_jax.data.pipeline import tfds
from stii_jax.data.pipeline.files import FilesBuilder, Reading
from stii_jax.data.pipeline.stored import Clip
from stii_jax.data.video.videofile import count_frames, read_frames
from stii_jax.data.video.view import View

FRAMES, HEIGHT, WIDTH = 128, 320, 480
"""Number of frames, height and width of every recording."""

_MASKS = {"proposals": ["proposal"], "video": ["mask"], "none": []}
"""The kinds of files that labels are made from, by value of the option `masks`."""

_RANGES = {
    "train": "train_videos",
    "validation": "validation_videos",
    "test": "test_videos",
    "test6": "test_videos",
}
_OBJECTS = {"validation": (3, 5), "test": (3, 5), "test6": (6, 6)}


@dataclasses.dataclass(eq=False, kw_only=True)
class ClevrerConfig(VideoConfig):
    """Options of CLEVRER. Ranges of videos use the official numbers and exclude the last; (0, 0) omits a split.

    Validation uses the last of the official training videos. So all of the official validation videos, the only others
    with annotations, can serve as tests.
    """

    num_frames: int = FRAMES
    """Number of frames per stored training video, from its first; all by default."""
    test_frames: int = 40
    """Number of frames per stored clip of the other splits. All objects are in view in each of them."""
    margin: int = 40
    """Pixels cut off at the left and at the right; 80 leaves a square."""
    masks: str = "proposals"
    """Source of the labels: "proposals"; "video" for MP4 files in which every object has a colour; or "none"."""
    train_videos: tuple[int, int] = (0, 9_500)
    validation_videos: tuple[int, int] = (9_500, 10_000)
    test_videos: tuple[int, int] = (10_000, 15_000)
    six_objects: bool = True
    """True to build the split "test6". A few hundred test videos may contain no clip for it."""

    @property
    def splits(self) -> tuple[str, ...]:
        """See `VideoConfig.splits`. Videos have 3 to 5 objects in "validation" and "test", and 6 in "test6"."""
        wanted = [split for split in _RANGES if len(self.numbers(split))]
        return tuple(split for split in wanted if split != "test6" or self.six_objects)

    @property
    def max_objects(self) -> int:
        """The maximum number of objects in a scene of CLEVRER."""
        return 6

    @property
    def view(self) -> View:
        """See `VideoConfig.view`."""
        return View(size=self.image_size, margins=(self.margin, 0, self.margin, 0))

    def numbers(self, split: str) -> range:
        """The official numbers of a split's videos."""
        return range(*getattr(self, _RANGES[split]))

    def frames_of(self, split: str) -> int:
        """See `VideoConfig.frames_of`."""
        return self.num_frames if split == "train" else self.test_frames

    def validate(self) -> None:
        """See `VideoConfig.validate`."""
        super().validate()
        self._at_least(1, "test_frames")
        self._at_least(0, "margin")
        if max(self.num_frames, self.test_frames) > FRAMES:
            raise DataError(
                f"options num_frames={self.num_frames}, test_frames={self.test_frames} of {self.name}: "
                f"give {FRAMES} or less, the length of the videos"
            )
        if 2 * self.margin >= WIDTH:
            raise DataError(f"option margin={self.margin} of {self.name}: give less than {WIDTH // 2}")
        if self.masks not in _MASKS:
            raise unknown(f"masks of {self.name}", self.masks, _MASKS)
        self._validate_ranges()

    def _validate_ranges(self) -> None:
        options = sorted(set(_RANGES.values()))
        for option in options:
            first, last = getattr(self, option)
            end = PARTS["test" if option == "train_videos" else "validation"].stop
            if not 0 <= first <= last <= end:
                why = "" if option == "train_videos" else "; later videos have no annotations"
                raise DataError(
                    f"option {option}=({first}, {last}) of {self.name}: give (first, end) within 0 to {end}{why}"
                )
        for one, two in itertools.combinations(options, 2):
            first, last = (bound(getattr(self, one)[i], getattr(self, two)[i]) for i, bound in ((0, max), (1, min)))
            if first < last:
                raise DataError(f"options {one} and {two} of {self.name} share the videos {first} to {last - 1}")
        if not self.splits:
            raise DataError(f"all of {', '.join(options)} of {self.name} are empty: give one (first, end)")


class Clevrer(FilesBuilder):
    """CLEVRER: whole videos for training, and clips with all objects in view for testing."""

    VERSION = tfds.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = """
    Download video_train.zip, video_validation.zip, annotation_train.zip, annotation_validation.zip and
    derender_proposals.zip (the object masks) from http://clevrer.csail.mit.edu/. They need not be unpacked. If they
    are, each should be in a folder of its name: video_train/video_00000-01000/video_00000.mp4 and
    derender_proposals/proposal_00000.json, or videos/train/ and annotations/train/. A subset of the videos suffices.
    With the option masks=video, masks are videos themselves: mask_validation/mask_10000-11000/mask_10000.mp4.
    """
    BUILDER_CONFIGS: ClassVar[list[ClevrerConfig]] = [
        ClevrerConfig(name="default"),
        ClevrerConfig(name="square", margin=80),
    ]
    builder_config: ClevrerConfig

    def entries(self, split: str) -> Sequence[str]:
        """The available videos of a split. See `FilesBuilder.entries`."""
        numbers = self.builder_config.numbers(split)
        there = self._files.index("video")
        found = [number for number in numbers if number in there]
        for kind in self._kinds(split):
            if not any(number in self._files.index(kind) for number in found or numbers):
                raise DataError(
                    f"{self.manual_dir} has no {kind} for split {split!r} (videos {numbers.start:05d} to "
                    f"{numbers.stop - 1:05d}): it should be in {source(kind, numbers.start)}. "
                    f"To omit that split, set the option {_RANGES[split]} to (0, 0)"
                )
        return [f"video_{number:05d}" for number in found]

    def read(self, split: str, entry: str) -> Reading:
        """See `FilesBuilder.read`."""
        number = int(entry.removeprefix("video_"))
        if split == "train":
            return Reading([Clip(self._whole(self._files.find("video", number)))])
        annotation = self._files.find("annotation", number)
        scene = read_scene(annotation.read(), str(annotation), FRAMES)
        reason = self._unfit(split, scene)
        if reason:
            return Reading([], {reason: 1})
        window = range(scene.window[0], scene.window[0] + self.builder_config.test_frames)
        labels, notes = self._segmentation(number, scene, window)
        view = self.builder_config.view
        frames = [view.frame(frame) for frame in _frames(self._files.find("video", number), window)]
        return Reading([Clip(np.stack(frames), labels)], notes)

    def videos(self, split: str) -> Iterator[dict[str, Any]]:
        """See `FilesBuilder.videos`."""
        try:
            yield from super().videos(split)
        except DataError as error:
            if split != "test6":
                raise
            raise DataError(f"{error}. To omit that split, set the option six_objects to false") from error

    @functools.cached_property
    def _files(self) -> Locator:
        return Locator(self.manual_dir)

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        generators = super()._split_generators(dl_manager)
        # Report missing files at once, not after an hour of building an earlier split.
        for split in self.builder_config.splits:
            found, wanted = len(self.entries(split)), len(self.builder_config.numbers(split))
            if found < wanted:
                print(f"{self.name} {split}: {found} of {wanted} videos are in {self.manual_dir}", flush=True)
        return generators

    def _kinds(self, split: str) -> list[str]:
        """The kinds of files that a split needs."""
        masks = _MASKS[self.builder_config.masks]
        return ["video"] if split == "train" else ["video", "annotation", *masks]

    def _unfit(self, split: str, scene: Scene) -> str:
        """Return the reason why a scene does not belong in a split, or "" if it does."""
        fewest, most = _OBJECTS[split]
        num_objects = len(scene.objects)
        if not fewest <= num_objects <= most:
            return f"videos of {num_objects} objects, which are not used for {split}"
        first, end = scene.window
        if end - first < self.builder_config.test_frames:
            return f"videos with all objects in view for fewer than {self.builder_config.test_frames} frames"
        return ""

    def _whole(self, found: Found) -> UInt8[np.ndarray, "T S S 3"]:
        """Read the first `num_frames` of a recording, which must be complete."""
        config = self.builder_config
        frames = _frames(found, range(FRAMES), whole=True)
        seen = [config.view.frame(frame) for frame in itertools.islice(frames, config.num_frames)]
        for _ in frames:
            pass
        return np.stack(seen)

    def _segmentation(
        self, number: int, scene: Scene, window: range
    ) -> tuple[UInt8[np.ndarray, "T S S"] | None, dict[str, int]]:
        if self.builder_config.masks == "none":
            return None, {}
        (kind,) = _MASKS[self.builder_config.masks]
        found = self._files.find(kind, number)
        try:
            if kind == "proposal":
                detections = read_detections(found.read(), str(found), window, (HEIGHT, WIDTH))
                linked = link.link(detections, scene.objects)
                labels, notes = linked.labels(), dict(linked.notes)
            else:
                labels, notes = mask_video.segment(np.stack(list(_frames(found, window))), len(scene.objects))
        except DataError as error:
            raise error if str(found) in str(error) else DataError(f"{found}: {error}") from error
        return np.stack([self.builder_config.view.labels(image) for image in labels]), notes


def _frames(found: Found, window: range, *, whole: bool = False) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
    """Yield the frames in a window of a recording.

    Args:
        found: the recording.
        window: numbers of the frames.
        whole: True if the recording must end with them.

    Raises:
        DataError: the recording is damaged, has the wrong length, or has another size.
    """
    end = window.start
    with found.on_disk() as path:
        for frame in read_frames(path, first=window.start):
            if frame.shape[:2] != (HEIGHT, WIDTH):
                raise DataError(f"{path} is {frame.shape[1]}x{frame.shape[0]} pixels, not {WIDTH}x{HEIGHT}")
            end += 1
            if end <= window.stop:
                yield frame
            if end == window.stop and not whole:
                return
        if end != window.stop:
            raise DataError(f"{path} has {count_frames(path)} frames, not {FRAMES}")
