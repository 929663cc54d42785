"""Run a module of the package as a program, in this process."""

import runpy
import sys
import warnings

import pytest


def run(module: str, *arguments: str) -> None:
    """Do what `python -m module arguments` does.

    No bytecode is written meanwhile. That of the module would call the tests' import hook, and `runpy` would store it
    under the name that programs without the hook load.
    """
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "'.*' found in sys.modules", RuntimeWarning)  # other tests imported it
        patch.setattr(sys, "argv", [module, *arguments])
        patch.setattr(sys, "dont_write_bytecode", True)
        runpy.run_module(module, run_name="__main__", alter_sys=True)
