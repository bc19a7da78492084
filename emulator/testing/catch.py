"""Waits for one UDP datagram and tells of it: the far end of an injected packet, as a process of its own.

    python -m emulator.testing.catch --port P [--timeout S]

Prints `ready PORT`, then one line of JSON: {"from", "payload" (hex), "monotonic_ns"} with the kernel's receive stamp.
Exit status 0, 1 if none came in time, 2 for a wrong command line, 71 if the port cannot be opened. Standard library
alone, like the probes.
"""

from __future__ import annotations

import argparse
import json
import select
import socket
import sys
import time

from emulator.testing.probe import SO_TIMESTAMPNS, TIMESPEC, open_receiver
from emulator.testing.stamps import Stop, clock_pair


def catch(port: int, timeout_s: float) -> dict[str, object] | None:
    """The first datagram at `port`, None if none came in time or if told to end."""
    stop = Stop()
    with open_receiver("", port) as receiver:
        print("ready", receiver.getsockname()[1], flush=True)
        poll = select.poll()
        poll.register(receiver, select.POLLIN)
        ends_s = time.monotonic() + timeout_s
        while not stop and time.monotonic() < ends_s:
            if not poll.poll(100):
                continue
            data, ancillary, _, source = receiver.recvmsg(65_535, 128)
            stamp_ns = time.time_ns()
            for level, kind, value in ancillary:
                if level == socket.SOL_SOCKET and kind == SO_TIMESTAMPNS:
                    seconds, nanoseconds = TIMESPEC.unpack_from(value)
                    stamp_ns = seconds * 1_000_000_000 + nanoseconds
            world_ns, monotonic_ns, _ = clock_pair()
            address = str(source[0]).removeprefix("::ffff:")
            return {"from": address, "payload": data.hex(), "monotonic_ns": monotonic_ns - (world_ns - stamp_ns)}
    return None


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m emulator.testing.catch", description="waits for one datagram")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--timeout", type=float, default=10.0, metavar="S")
    chosen = parser.parse_args(arguments)
    try:
        caught = catch(chosen.port, chosen.timeout)
    except OSError as error:
        print(f"catch: {error}", file=sys.stderr)
        return 71
    if caught is None:
        return 1
    print(json.dumps(caught), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
