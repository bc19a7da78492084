"""The port of an end that is a part of its own, elsewhere: what the link knows of it."""

from __future__ import annotations

from collections.abc import Callable

from emulator.ports.frames import DEVICE
from emulator.ports.stamp_ring import NO_STAMPS
from emulator.ports.tun import KernelDrops


class RemotePort:
    """Has no descriptor here. drops: what its end says that the kernel dropped before it could be read."""

    kind = DEVICE
    stamps, stamps_descriptor = NO_STAMPS, -1
    descriptor = -1

    def __init__(self, name: str, *, ethernet: bool, drops: Callable[[], int]) -> None:
        self.name, self.ethernet, self._drops = name, ethernet, drops

    def kernel_drops(self) -> KernelDrops:
        return KernelDrops(transmit=self._drops(), receive=0)
