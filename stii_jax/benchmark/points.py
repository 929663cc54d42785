"""What a sweep measures: a base, and points around it, each with one factor changed."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from stii_jax.config import ConfigError, flatten, load_config


class Factor(NamedTuple):
    """Something that a step's cost depends on."""

    title: str
    setting: str
    """Key of the config; "" of the devices, which are not in it."""


FACTORS = {
    "frames": Factor("frames T", "data.num_frames"),
    "refinements": Factor("refinements R", "model.num_refinements"),
    "slots": Factor("slots K", "model.num_slots"),
    "batch": Factor("videos a step", "batch_size"),
    "size": Factor("pixels a side", "data.options.image_size"),
    "devices": Factor("devices", ""),
    "pieces": Factor("pieces of the batch", "train.accumulation"),
}


class Size(NamedTuple):
    """A base, by overrides, and the values that each factor takes beside the base's own."""

    overrides: tuple[str, ...]
    values: Mapping[str, Sequence[int]]


_FRAMES = {"frames": (4, 10, 20, 40), "refinements": (2, 4, 6, 8, 10), "slots": (5, 9)}
_SMALL_MODEL = {"latent_dim": 16, "hidden_dim": 64, "feature_dim": 64, "prior_dim": 64}
_SMALL_MODEL |= {"decoder_channels": 16, "refiner_channels": 16}
SIZES = {
    # Two CPU cores measure two systems in a quarter of an hour.
    "small": Size(
        (
            *("batch_size=2", "data.num_frames=10", "data.options.image_size=32"),
            *(f"model.{name}={value}" for name, value in _SMALL_MODEL.items()),
        ),
        _FRAMES | {"batch": (1, 2, 4), "size": (32, 64, 128), "pieces": (1, 2)},
    ),
    # The model as its config has it; for accelerators.
    "paper": Size(
        ("batch_size=32", "data.num_frames=10", "data.options.image_size=64"),
        _FRAMES | {"batch": (8, 16, 32, 64), "size": (64, 128), "pieces": (1, 2, 4, 8)},
    ),
}


class Machine(NamedTuple):
    """What jax runs on, and the code that it runs."""

    backend: str
    num_devices: int
    """Accelerators, or cores of a CPU."""
    hardware: str
    commit: str | None


class Point(NamedTuple):
    """One measurement."""

    config: str
    overrides: tuple[str, ...]
    values: dict[str, int]
    """Of every factor."""
    changed: str
    """Name of the factor that is not as in the base; "" of the base itself."""


def plan(
    configs: Iterable[str], size: str, factors: Sequence[str], overrides: Sequence[str], machine: Machine
) -> list[Point]:
    """The points of a sweep: of each config first the base, then each factor's other values.

    Where devices can be left out, the base has one. Values that the base's batch cannot be divided by are left out.

    Raises:
        ConfigError: as of `load_config`, and where the base's batch cannot be divided.
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
    """The base's, and after them the factors', which count."""
    return (*base, *(f"{factor.setting}={values[name]}" for name, factor in FACTORS.items() if factor.setting))
