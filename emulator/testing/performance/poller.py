"""Asks a dish for its status and a GNSS receiver for its position, once a second, until SIGTERM; a process of its own.

    python poller.py --line PATH [--dish HOST:PORT]

It says `ready` when both have answered for the first time, and in the end how many answers there were, as JSON.
Standard library alone, and grpcio for a dish.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable

GET_STATUS = b"\xe2\x3e\x00"  # a Request with an empty get_status, field 1004
HANDLE = "/SpaceX.API.Device.Device/Handle"
QUERY = b"$EIGPQ,GGA\r\n"
EVERY_S, PATIENCE_S = 1.0, 5.0


def dish_at(address: str) -> Callable[[], bool]:
    """Asks for its status; whether it answered."""
    import grpc

    call = grpc.insecure_channel(address).unary_unary(HANDLE)

    def asked() -> bool:
        try:
            return bool(call(GET_STATUS, timeout=PATIENCE_S))
        except grpc.RpcError:
            return False

    return asked


def receiver_at(path: str) -> Callable[[], bool]:
    """Asks for its position; whether it answered. What it says by itself is read, too."""
    line = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)

    def asked() -> bool:
        os.write(line, QUERY)
        heard, ends = b"", time.monotonic() + PATIENCE_S
        while b"GGA" not in heard and (left := ends - time.monotonic()) > 0:
            if select.select([line], [], [], left)[0]:
                heard += os.read(line, 4096)
        return b"GGA" in heard

    return asked


def main() -> int:
    parser = argparse.ArgumentParser(prog="poller.py", description="asks stubs, once a second")
    parser.add_argument("--line", required=True, metavar="PATH")
    parser.add_argument("--dish", default="", metavar="HOST:PORT")
    chosen = parser.parse_args()
    ended: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: ended.append(number))
    signal.signal(signal.SIGINT, lambda number, _: ended.append(number))
    asked = {"nmea": receiver_at(chosen.line)} | ({"dish": dish_at(chosen.dish)} if chosen.dish else {})
    answers = {name: int(ask()) for name, ask in asked.items()}
    if not all(answers.values()):
        print(f"poller: no answer: {answers}", file=sys.stderr)
        return 71
    print("ready", flush=True)
    next_s = time.monotonic()
    while not ended:
        next_s += EVERY_S
        for name, ask in asked.items():
            answers[name] += ask()
        while not ended and (left := next_s - time.monotonic()) > 0:
            time.sleep(min(left, 0.1))
    print(json.dumps(answers), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
