"""Read the report's input files, with an error for files that cannot be used."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stii_jax.errors import UserError


class ReportError(UserError, ValueError):
    """A results file, run folder or README that cannot be used; the message names it and what to change."""


def need(path: Path, content: Any, key: str) -> Any:
    """Return `content[key]`, read from the file `path`; raises `ReportError` if the key is missing."""
    if not isinstance(content, Mapping) or key not in content:
        raise ReportError(f"{path}: `{key}` is missing")
    return content[key]


def read_json(path: Path) -> Any:
    """Read a JSON file; raises `ReportError` if it is missing or broken."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError as error:
        raise ReportError(f"{path}: no such file") from error
    except (ValueError, RecursionError) as error:
        raise ReportError(f"{path}: not JSON ({error})") from error


def is_number(value: Any) -> bool:
    """True for a finite number; a bool is not a number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
