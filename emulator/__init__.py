"""Bentpipe: a hardware-in-the-loop satellite terminal emulator that carries real IP traffic.

`emulator.Bench` is a bench in this process. What is exported is imported when it is asked for: importing the package
costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from emulator.control.api import Bench

__version__ = "0.1.0"
__all__ = ["Bench", "__version__"]

_HOMES = {"Bench": "emulator.control.api"}


def __getattr__(name: str) -> object:
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
