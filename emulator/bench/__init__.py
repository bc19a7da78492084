"""A running bench: the only place, with the ports and the stubs' transport, that reads a clock."""

from emulator.bench.bench import Bench, Counters, LinkState

__all__ = ["Bench", "Counters", "LinkState"]
