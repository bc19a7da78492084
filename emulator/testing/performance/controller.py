"""An antenna's controller on a pty, played by a process of its own, that turns away and back at once, on order.

    python controller.py --here AZ EL --there AZ EL --changes N --dwell-ms SHORTEST LONGEST

It prints `ready PATH`; whatever ends a line there is answered with where it points, as EasyComm does. After a line on
stdin it changes N times, and each position stays for a while between the two bounds. After the last it prints, as JSON,
a pair for each change: the monotonic time in ns, taken just before the first report of the new position was handed to
the kernel in one write, and whether that was `--here`. It ends with its stdin. Standard library
alone, for a fast start.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import select
import sys
import time
import tty

AT_FIRST_S = 0.5  # so long it stays, so that whoever watches has seen something of before


def main() -> int:
    parser = argparse.ArgumentParser(prog="controller.py", description="an antenna's controller, played")
    parser.add_argument("--here", nargs=2, type=float, required=True, metavar=("AZ", "EL"))
    parser.add_argument("--there", nargs=2, type=float, required=True, metavar=("AZ", "EL"))
    parser.add_argument("--changes", type=int, required=True, metavar="N")
    parser.add_argument("--dwell-ms", nargs=2, type=float, required=True, metavar=("SHORTEST", "LONGEST"))
    chosen = parser.parse_args()
    draws = random.Random(1)  # apart by no whole number of anybody's periods
    master, slave = os.openpty()
    tty.setraw(slave)
    reports = {True: _report(*chosen.here), False: _report(*chosen.there)}
    print("ready", os.ttyname(slave), flush=True)
    here = told = True
    change_s: float | None = None  # when it turns next; None: not yet, or no more
    changes: list[tuple[int, bool]] = []
    while True:
        left_s = None if change_s is None else max(0.0, change_s - time.monotonic())
        readable, _, _ = select.select([master, sys.stdin], [], [], left_s)
        if change_s is not None and time.monotonic() >= change_s:
            here, change_s = not told, None
        if sys.stdin in readable:
            if not sys.stdin.readline():
                return 0
            change_s = time.monotonic() + AT_FIRST_S
        if master in readable and b"\n" in os.read(master, 4096):
            at_ns = time.monotonic_ns()
            os.write(master, reports[here])
            if here is not told:
                told = here
                changes.append((at_ns, here))
                if len(changes) == chosen.changes:
                    print(json.dumps(changes), flush=True)
                else:
                    change_s = time.monotonic() + draws.uniform(*chosen.dwell_ms) / 1e3


def _report(azimuth_deg: float, elevation_deg: float) -> bytes:
    return f"AZ{azimuth_deg:.1f} EL{elevation_deg:.1f}\n".encode("ascii")


if __name__ == "__main__":
    sys.exit(main())
