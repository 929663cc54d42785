"""Reading JSON that may hold anything: every complaint names the file, the place in it and the key."""

import json
from typing import Any, NoReturn

from stii_jax.data.errors import DataError

_NAMES = {
    dict: "an object",
    list: "a list",
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
}


def load(data: bytes, name: str) -> Any:
    """What a JSON file holds.

    Args:
        data: the file's bytes.
        name: of the file, for messages.

    Raises:
        DataError: it is no JSON, or holds NaN or infinity, which the physics of a good scene never gives.
    """

    def refuse(constant: str) -> NoReturn:
        raise DataError(f"{name} is damaged: it holds {constant} for a number")

    try:
        return json.loads(data, parse_constant=refuse)
    except DataError:
        raise
    except (ValueError, RecursionError) as error:  # not only JSONDecodeError: also of text that is no UTF-8
        raise DataError(f"{name} is no whole JSON file: {error}") from error


def field(holder: Any, key: str, kind: type, place: str) -> Any:
    """`holder[key]`, which is of type `kind`; whole numbers do for `float`.

    Raises:
        DataError: it is not there, or of another type; names `place`, where the holder is.
    """
    if type(holder) is not dict:
        raise DataError(f"{place} is {_describe(holder)}, not an object with {key!r}")
    if key not in holder:
        raise DataError(f"{place} has no {key!r}")
    value = holder[key]
    if kind is float and type(value) is int:
        return float(max(min(value, 1 << 62), -(1 << 62)))  # larger ones overflow
    if type(value) is not kind:
        raise DataError(f"{place} has {_describe(value)} for {key!r}, not {_NAMES[kind]}")
    return value


def _describe(value: Any) -> str:
    # A list may be as long as the file.
    return _NAMES[type(value)] if isinstance(value, dict | list) else repr(value)[:40]
