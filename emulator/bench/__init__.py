"""A running bench: the only place, with the ports and the stubs' transport, that reads a clock.

`Bench` and its snapshots are imported when they are asked for: NumPy starts threads, and a process with threads can no
longer move into a user namespace (`privilege.ensure_network_privilege`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from emulator.bench.bench import Bench
    from emulator.bench.snapshot import Counters, LinkState

__all__ = ["Bench", "Counters", "LinkState"]


def __getattr__(name: str) -> object:
    if name in __all__:
        from emulator.bench import bench, snapshot

        return getattr(bench if name == "Bench" else snapshot, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
