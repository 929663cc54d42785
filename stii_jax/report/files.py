"""What the report says of files that it cannot use."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stii_jax.errors import UserError


class ReportError(UserError, ValueError):
    """A results file, run folder or README that cannot be used; the message names it and what to change."""


def need(path: Path, content: Any, key: str) -> Any:
    """`content[key]` of the file `path`; raises `ReportError` where there is no such key."""
    if not isinstance(content, Mapping) or key not in content:
        raise ReportError(f"{path}: `{key}` is missing")
    return content[key]


def read_json(path: Path) -> Any:
    """The content of a JSON file; raises `ReportError` where it is missing or broken."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError as error:
        raise ReportError(f"{path}: no such file") from error
    except (ValueError, RecursionError) as error:
        raise ReportError(f"{path}: not JSON ({error})") from error


def is_number(value: Any) -> bool:
    """Whether it is a finite number; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
