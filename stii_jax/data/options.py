"""What describes a dataset variant, and how options change it."""

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any, Self

import tensorflow_datasets as tfds

from stii_jax.data.errors import DataError, unknown


@dataclasses.dataclass(eq=False, kw_only=True)
class VideoConfig(tfds.core.BuilderConfig):
    """One variant of a video dataset. Every field added to tfds's own is an option that users may override."""

    image_size: int = 64
    """Height and width of a frame, in pixels."""
    num_frames: int = 51
    """Frames of a stored video."""
    num_train: int = 50_000
    num_validation: int = 1_000
    num_test: int = 10_000
    seed: int = 0
    """Seed of the generated videos."""

    @property
    def split_sizes(self) -> dict[str, int]:
        """Videos in each split."""
        return {"train": self.num_train, "validation": self.num_validation, "test": self.num_test}

    @property
    def max_objects(self) -> int:
        """Most objects that a video of this variant can show."""
        raise NotImplementedError

    def validate(self) -> None:
        """Raises `DataError` where the fields, each of the right type, make no dataset."""
        for field in ("image_size", "num_frames", "num_train", "num_validation", "num_test"):
            if getattr(self, field) < 1:
                raise DataError(f"option {field}={getattr(self, field)} of {self.name}: give 1 or more")

    def with_options(self, options: Mapping[str, Any]) -> Self:
        """This variant with some fields changed.

        Args:
            options: field -> value. Lists may stand for tuples (JSON has none) and whole numbers for floats.

        Returns:
            a config whose name spells out every changed field, so that two different datasets never share a folder.

        Raises:
            DataError: an unknown field, a value of the wrong type, or values that make no dataset.
        """
        own = {field.name for field in dataclasses.fields(tfds.core.BuilderConfig)}
        known = {field.name: field.type for field in dataclasses.fields(self) if field.name not in own}
        changed = {}
        for key, value in options.items():
            if key not in known:
                raise unknown(f"option of {self.name}", key, known)
            value = _typed(f"option {key} of {self.name}", value, known[key])
            if value != getattr(self, key):
                changed[key] = value
        if not changed:
            return self
        # In the order of the fields, so that the order of the options does not matter.
        parts = [self.name] + [f"{key}={_spell(changed[key])}" for key in known if key in changed]
        config = dataclasses.replace(self, name="-".join(parts), **changed)
        config.validate()
        return config


def _typed(what: str, value: Any, kind: Any) -> Any:
    """`value` as a `kind` (int, float, str, bool or a tuple of those); `what` names it in the error."""
    if typing.get_origin(kind) is tuple:
        kinds = typing.get_args(kind)
        if isinstance(value, list | tuple) and len(value) == len(kinds):
            return tuple(_typed(what, item, item_kind) for item, item_kind in zip(value, kinds))
    elif kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    elif type(value) is kind:
        return value
    name = kind if isinstance(kind, types.GenericAlias) else kind.__name__
    raise DataError(f"{what} is {value!r} ({type(value).__name__}): give a value of type {name}")


def _spell(value: Any) -> str:
    return "_".join(map(_spell, value)) if isinstance(value, tuple) else str(value)
