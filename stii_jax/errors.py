"""The errors the user can fix, and how a command ends. Imports nothing heavy: every command starts from here."""

import os
import signal
import sys
from typing import NoReturn

__all__ = ["PlatformError", "Preempted", "UserError", "check_platform", "exit_now"]


class UserError(Exception):
    """Base of the errors the user can fix: the command line shows one as a single line, without a traceback."""


class PlatformError(UserError):
    """This operating system lacks a call the program needs."""


class Preempted(Exception):
    """The run received SIGTERM and saved a checkpoint."""

    EXIT_CODE = 128 + signal.SIGTERM


def check_platform() -> None:
    """Stop on Windows, which has neither `fcntl` nor `resource`; raises `PlatformError`."""
    if sys.platform == "win32":
        raise PlatformError(
            "stii_jax runs on Linux and macOS, not on Windows itself: install it inside WSL "
            "(`wsl --install` in PowerShell, then the Linux commands of README.md in the window that opens)"
        )


def exit_now(code: int, message: str = "") -> NoReturn:
    """End the process at once. A normal exit would wait for the other processes, or for failed writes."""
    print(message, end="\n" if message else "", file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
