"""Gives back what a bench that has ended needs no more: the memory of the packets that were under way.

Who keeps a bench, such as a test that failed, may still ask for its counters and its channel.
"""

from __future__ import annotations

from collections.abc import Iterable

from emulator.link.link import Link
from emulator.ports.fabric import FabricRelay
from emulator.ports.relay import Relay

PACKETS = ("ring", "supers", "queue", "flight", "overtaken", "ledger", "flows")
"""Hundreds of MB, at a high rate and a long delay."""


def release(links: Iterable[Link], relay: Relay | FabricRelay) -> None:
    """To be called when the loop has stopped; from then on the links carry nothing."""
    for link in links:
        kept = {name: getattr(link.state, name)[:0].copy() for name in PACKETS}
        link.state = link.state._replace(**kept)
        link.settle = _settled  # not the loop's: link and loop would hold each other
    up, down = (ring._replace(data=ring.data[:0].copy(), rows=ring.rows[:0].copy()) for ring in relay.captures)
    relay.captures = up, down


def _settled() -> None:
    """Nothing moves any more."""
