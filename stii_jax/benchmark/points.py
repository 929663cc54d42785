"""The points of a sweep: a base, and points around it that each change one factor."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from stii_jax.config import ConfigError, flatten, load_config


class Factor(NamedTuple):
    """A factor of a step's cost."""

    title: str
    setting: str
    """Key of the config; "" for the devices, which are not in it."""


FACTORS = {
    "frames": Factor("frames T", "data.num_frames"),
    "refinements": Factor("refinements R", "model.num_refinements"),
    "slots": Factor("slots K", "model.num_slots"),
    "batch": Factor("batch size (videos)", "batch_size"),
    "size": Factor("image size (pixels per side)", "data.options.image_size"),
    "devices": Factor("devices", ""),
    "pieces": Factor("accumulation steps", "train.accumulation"),
}


class Size(NamedTuple):
    """A base, given by overrides, and the values of each factor besides the base's own."""

    overrides: tuple[str, ...]
    values: Mapping[str, Sequence[int]]


_FRAMES = {"frames": (4, 10, 20, 40), "refinements": (2, 4, 6, 8, 10), "slots": (5, 9)}
_SMALL_MODEL = {"latent_dim": 16, "hidden_dim": 64, "feature_dim": 64, "prior_dim": 64}
_SMALL_MODEL |= {"decoder_channels": 16, "refiner_channels": 16}
SIZES = {
    # On two CPU cores, two systems take a quarter of an hour.
    "small": Size(
        (
            *("batch_size=2", "data.num_frames=10", "data.options.image_size=32"),
            *(f"model.{name}={value}" for name, value in _SMALL_MODEL.items()),
        ),
        _FRAMES | {"batch": (1, 2, 4), "size": (32, 64, 128), "pieces": (1, 2)},
    ),
    # The model of the config itself, for accelerators.
    "paper": Size(
        ("batch_size=32", "data.num_frames=10", "data.options.image_size=64"),
        _FRAMES | {"batch": (8, 16, 32, 64), "size": (64, 128), "pieces": (1, 2, 4, 8)},
    ),
}


class Machine(NamedTuple):
    """The hardware that jax runs on, and the version of the code."""

    backend: str
    num_devices: int
    """Number of accelerators, or of CPU cores."""
    hardware: str
    commit: str | None


class Point(NamedTuple):
    """One measurement."""

    config: str
    overrides: tuple[str, ...]
    values: dict[str, int]
    """The value of every factor."""
    changed: str
    """Name of the factor that differs from the base; "" for the base itself."""


def plan(
    configs: Iterable[str], size: str, factors: Sequence[str], overrides: Sequence[str], machine: Machine
) -> list[Point]:
    """Return the points of a sweep: for each config the base, then each factor's other values.

    The base has one device if the backend can use fewer than all. Values that do not divide the base's batch are
    skipped.

    Raises:
        ConfigError: `load_config` raises it, or the base's batch cannot be divided.
    """
    points = []
    for config in configs:
        base = [*SIZES[size].overrides, *overrides]
        settings = flatten(load_config(config, base))
        values = {name: settings[factor.setting] for name, factor in FACTORS.items() if factor.setting}
        values["devices"] = 1 if machine.backend in ("cpu", "gpu") else machine.num_devices
        if values["batch"] % (values["devices"] * values["pieces"]):
            raise ConfigError(
                f"batch_size={values['batch']} cannot be divided by {values['devices']} devices and by "
                f"train.accumulation={values['pieces']}: change --config.batch_size"
            )
        points.append(Point(config, _overrides(base, values), values, ""))
        for name in factors:
            for value in _values(name, size, machine):
                changed = values | {name: value}
                if value != values[name] and changed["batch"] % (changed["devices"] * changed["pieces"]) == 0:
                    points.append(Point(config, _overrides(base, changed), changed, name))
    for point in points:
        load_config(point.config, point.overrides)
    return points


def _values(name: str, size: str, machine: Machine) -> Iterable[int]:
    if name != "devices":
        return SIZES[size].values[name]
    powers = [2**exponent for exponent in range(machine.num_devices.bit_length())]
    return powers if machine.backend in ("cpu", "gpu") else []


def _overrides(base: Sequence[str], values: Mapping[str, int]) -> tuple[str, ...]:
    """Return the base's overrides, followed by those of the factors, which take precedence."""
    return (*base, *(f"{factor.setting}={values[name]}" for name, factor in FACTORS.items() if factor.setting))
