"""Stages for the tests: what they do is in their memory's first words."""

from __future__ import annotations

from typing import Any

SIZE = -1  # in the place of a byte
AT, BY, DROPPED, SUM = range(4)


def look(packet: Any, data: Any, memory: Any) -> int:
    """Goes by one byte, or by the size: of what is left of it, divided by BY, DROPPED is dropped, and more is late.

    All that it sees goes into SUM, and is then overwritten.
    """
    seen = data.size
    if memory[AT] >= 0:
        seen = int(data[memory[AT]]) if memory[AT] < data.size else 0
    total = memory[SUM]
    for place in range(data.size):
        total = (total * 31 + int(data[place])) % 1_000_003
        data[place] = 255
    for word in range(6):
        total = (total * 31 + packet[word] % 1_000_003) % 1_000_003
    memory[SUM] = total
    rest = seen % memory[BY]
    return -1 if rest == memory[DROPPED] else rest * 1000


def add(packet: Any, data: Any, memory: Any) -> int:
    """The second packet is memory[0] later."""
    return int(memory[0]) if packet[0] == 2 else 0
