"""Read and check untrusted JSON. Every error names the file, the place in it and the key."""

import json
from typing import Any, NoReturn

from stii_jax.data.errors import DataError

_NAMES = {
    dict: "an object",
    list: "a list",
    str: "text",
    int: "an integer",
    float: "a number",
    bool: "true or false",
}


def load(data: bytes, name: str) -> Any:
    """Parse a JSON file.

    Args:
        data: content of the file.
        name: name of the file, for messages.

    Raises:
        DataError: the file is not JSON, or holds NaN or infinity, which a valid scene never has.
    """

    def refuse(constant: str) -> NoReturn:
        raise DataError(f"{name} is damaged: it holds {constant} instead of a number")

    try:
        return json.loads(data, parse_constant=refuse)
    except DataError:
        raise
    except (ValueError, RecursionError) as error:  # not only JSONDecodeError, but also text that is not UTF-8
        raise DataError(f"{name} is not a complete JSON file: {error}") from error


def field(holder: Any, key: str, kind: type, place: str) -> Any:
    """Return `holder[key]`, checked to be of type `kind`. Integers are accepted for `float`.

    Raises:
        DataError: the key is missing, or its value has another type. The message names `place`, that of the holder.
    """
    if type(holder) is not dict:
        raise DataError(f"{place} is {_describe(holder)}, not an object with {key!r}")
    if key not in holder:
        raise DataError(f"{place} has no {key!r}")
    value = holder[key]
    if kind is float and type(value) is int:
        return float(max(min(value, 1 << 62), -(1 << 62)))  # larger integers overflow
    if type(value) is not kind:
        raise DataError(f"{place} has {_describe(value)} for {key!r}, not {_NAMES[kind]}")
    return value


def _describe(value: Any) -> str:
    # A list may be as long as the file, so it is not quoted.
    return _NAMES[type(value)] if isinstance(value, dict | list) else repr(value)[:40]
