"""The configs of dataset variants, and the options that change them."""

import abc
import dataclasses
import hashlib
import os
import re
import typing
from collections.abc import Mapping
from typing import Any, ClassVar

from stii_jax.data.errors import DataError, unknown
from stii_jax.data.pipeline import tfds
from stii_jax.data.video.view import View

_LONGEST_NAME = 240  # file systems take 255


@dataclasses.dataclass(eq=False, kw_only=True)
class VideoConfig(tfds.BuilderConfig, abc.ABC):
    """One variant of a video dataset. All fields except TFDS's own are options that users may override."""

    image_size: int = 64
    """Height and width of a frame, in pixels."""
    num_frames: int = 51
    """Number of frames per stored video."""
    frame_stride: ClassVar[int] = 1
    """Step between the frames that are taken from a recording: 1 takes every frame."""
    paths: ClassVar[tuple[str, ...]] = ()
    """The options that are paths. They may be relative to the working directory, or start with `~`."""

    @property
    @abc.abstractmethod
    def splits(self) -> tuple[str, ...]:
        """The names of the splits, in the order in which they are built."""

    @property
    @abc.abstractmethod
    def max_objects(self) -> int:
        """The maximum number of objects in a video of this variant."""

    def frames_of(self, split: str) -> int:
        """The number of frames per stored video of a split."""
        del split  # all splits have the same length, unless a dataset overrides this method
        return self.num_frames

    @property
    def view(self) -> View:
        """The conversion of a recording's frames to the model's; datasets without recordings use the default."""
        return View(size=self.image_size, square=True)

    def validate(self) -> None:
        """Raise `DataError` if the fields, each of the right type, do not describe a valid dataset."""
        self._at_least(1, "image_size", "num_frames")

    def _at_least(self, lowest: int, *fields: str) -> None:
        for field in fields:
            if getattr(self, field) < lowest:
                raise DataError(f"option {field}={getattr(self, field)} of {self.name}: give {lowest} or more")

    def _count_range(self, highest: int, field: str) -> None:
        fewest, most = getattr(self, field)
        if not 1 <= fewest <= most <= highest:
            raise DataError(f"option {field}={(fewest, most)} of {self.name}: give (fewest, most), 1 to {highest}")

    def _multiple_of(self, divisor: int, field: str) -> None:
        if getattr(self, field) % divisor:
            raise DataError(f"option {field}={getattr(self, field)} of {self.name}: give a multiple of {divisor}")

    def with_options(self, options: Mapping[str, Any]) -> "VideoConfig":
        """Return this variant with some fields changed.

        Args:
            options: field -> value. Lists may stand for tuples (JSON has none) and integers for floats.

        Returns:
            a config whose name spells out the changed fields, so that two datasets never share a folder.

        Raises:
            DataError: an unknown field, a value of the wrong type, or values that do not describe a valid dataset.
        """
        own = {field.name for field in dataclasses.fields(tfds.BuilderConfig)}
        known = {field.name: field.type for field in dataclasses.fields(self) if field.name not in own}
        changed = {}
        for key, value in options.items():
            if key not in known:
                raise unknown(f"option of {self.name}", key, known)
            try:
                value = _typed(value, known[key])
            except TypeError as error:
                kind = known[key] if typing.get_args(known[key]) else getattr(known[key], "__name__", "")
                raise DataError(f"option {key}={value!r} of {self.name} has the wrong type: give {kind}") from error
            if key in self.paths and value:
                value = os.path.abspath(os.path.expanduser(value))
            if value != getattr(self, key):
                changed[key] = value
        if not changed:
            self.validate()  # a variant may have a required option
            return self
        # In the order of the fields, so that the order of the options does not matter.
        parts = [self.name] + [f"{key}={_spell(changed[key])}" for key in known if key in changed]
        name = "-".join(parts)
        if len(name) > _LONGEST_NAME:
            name = f"{name[: _LONGEST_NAME - 9]}~{hashlib.sha256(name.encode()).hexdigest()[:8]}"
        config = dataclasses.replace(self, **{"name": name, **changed})
        config.validate()
        return config


@dataclasses.dataclass(eq=False, kw_only=True)
class GeneratedConfig(VideoConfig):
    """A variant whose videos are generated, in any number."""

    num_train: int = 50_000
    num_validation: int = 1_000
    num_test: int = 10_000
    seed: int = 0
    """Seed of the generated videos."""

    @property
    def split_sizes(self) -> dict[str, int]:
        """The number of videos per split."""
        return {"train": self.num_train, "validation": self.num_validation, "test": self.num_test}

    @property
    def splits(self) -> tuple[str, ...]:
        """See `VideoConfig.splits`."""
        return tuple(self.split_sizes)

    def validate(self) -> None:
        """See `VideoConfig.validate`."""
        super().validate()
        self._at_least(1, *(f"num_{split}" for split in self.splits))
        self._at_least(0, "seed")


def _typed(value: Any, kind: Any) -> Any:
    """Return `value` as a `kind` (int, float, str, bool or a tuple of those), or raise TypeError."""
    kinds = typing.get_args(kind)
    if kinds and isinstance(value, list | tuple) and len(value) == len(kinds):
        return tuple(map(_typed, value, kinds))
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise TypeError(f"{value!r} is not of type {kind}")
    return value


def _spell(value: Any) -> str:
    """Spell a value as part of a folder's name. Other text, such as a path, is shortened to its end and a hash."""
    if isinstance(value, tuple):
        return "_".join(map(_spell, value))
    text = str(value)
    if re.fullmatch(r"[\w.+-]{0,60}", text):
        return text
    end = re.sub(r"[^\w.+-]", "_", text.rstrip("/").rpartition("/")[2])[-40:]
    return f"{end}~{hashlib.sha256(text.encode()).hexdigest()[:8]}"
