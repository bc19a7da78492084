"""Bentpipe: a hardware-in-the-loop satellite terminal emulator that carries real IP traffic.

`emulator.Bench` is a bench in this process, `emulator.Control` commands one that runs elsewhere. Both are imported when
they are asked for: importing the package
costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from emulator.control.api import AsyncBench, Bench
    from emulator.control.client import ControlClient as Control

__version__ = "0.1.0"
__all__ = ["AsyncBench", "Bench", "Control", "__version__"]

_HOMES = {
    "AsyncBench": ("emulator.control.api", "AsyncBench"),
    "Bench": ("emulator.control.api", "Bench"),
    "Control": ("emulator.control.client", "ControlClient"),
}


def __getattr__(name: str) -> object:
    if name in _HOMES:
        from importlib import import_module

        module, attribute = _HOMES[name]
        return getattr(import_module(module), attribute)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
