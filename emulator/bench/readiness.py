"""What a bench that was just opened may still wait for before packets can pass: cables, and the antenna."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from emulator.errors import EmulationError
from emulator.ports.nic import NicPort

if TYPE_CHECKING:
    from emulator.bench.bench import Bench

CARRIER_S = 15.0
LOCK_S = 90.0  # for the slowest mount to come from the far side of the sky
LOOK_S = 0.02


def await_carrier(bench: Bench) -> None:
    """Until both cards have their carrier: one that was set up just now takes a while.

    Raises EmulationError if one has none for CARRIER_S.
    """
    pause, ends_s = threading.Event(), time.monotonic() + CARRIER_S
    cards = [side.port for side in (bench.terminal, bench.datacenter) if isinstance(side.port, NicPort)]
    while silent := [card.name for card in cards if not card.running()]:
        if time.monotonic() > ends_s:
            raise EmulationError(f"{' and '.join(silent)}: no carrier within {CARRIER_S:g} s: is the cable in?")
        pause.wait(LOOK_S)


def await_lock(bench: Bench) -> None:
    """Until the antenna that the bench itself points has its satellite, if one serves: before, nothing would pass.

    Raises EmulationError if it has not for LOCK_S and the time that it takes to acquire it.
    """
    antenna = bench.antenna
    if antenna is None or antenna.settings.tracking != "program":
        return
    pause, patience_s = threading.Event(), LOCK_S + antenna.settings.acquisition_s
    ends_s = time.monotonic() + patience_s
    while (now := bench.state()).satellite and not (now.antenna and now.antenna.locked):
        if time.monotonic() > ends_s:
            off = now.antenna.off_deg if now.antenna else None
            where = "its controller tells no position" if off is None else f"its beam is {off:.1f}° off"
            raise EmulationError(f"the antenna has not found {now.satellite} within {patience_s:g} s: {where}")
        pause.wait(LOOK_S)
