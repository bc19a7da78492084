"""Carries the frames of one VLAN between a network card and a TAP, for kernels that have no VLANs of their own.

    python -I -S vlan_end.py VLAN TAP CARD       (numbers of open descriptors)

A process of its own, on the standard library alone. The TAP's frames have the kernel's note on checksums and
segmentation before them (struct virtio_net_hdr), and so have the card's: large ones stay whole on their way in.
"""

import contextlib
import os
import select
import socket
import sys

VNET_BYTES = 10  # linux/virtio_net.h
MACS_BYTES = 12
LARGEST_BYTES = 1 << 17
BATCH = 64  # frames of one side before the other's turn


def main() -> None:
    vlan, tap, card = map(int, sys.argv[1:])
    tag = b"\x81\x00" + vlan.to_bytes(2, "big")
    wire = socket.socket(fileno=card)
    for descriptor in (tap, card):
        os.set_blocking(descriptor, False)
    waiting = select.poll()
    for descriptor in (tap, card):
        waiting.register(descriptor, select.POLLIN)
    while True:
        for descriptor, event in waiting.poll():
            if event & ~select.POLLIN:  # the TAP, or the card, is gone
                return
            with contextlib.suppress(BlockingIOError):
                for _ in range(BATCH):
                    if descriptor == tap:
                        frame = os.read(tap, LARGEST_BYTES)[VNET_BYTES:]
                        with contextlib.suppress(OSError):  # the card is down, or its queue is full: lost, as on a wire
                            wire.send(bytes(VNET_BYTES) + frame[:MACS_BYTES] + tag + frame[MACS_BYTES:])
                    else:
                        data = wire.recv(LARGEST_BYTES)
                        with contextlib.suppress(OSError):
                            os.write(tap, data)


if __name__ == "__main__":
    with contextlib.suppress(OSError):
        main()
