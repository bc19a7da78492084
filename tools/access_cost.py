"""What the access network costs TCP: benches side by side, from none to all of its stages, in turns of a second.

    tools/with test -- python tools/access_cost.py [RATE_MBPS [ROUNDS]]

Prints the rates of each round, and the median of each round's ratio to the plain link: what disturbs a round disturbs
all of its turns. RATE_MBPS 0 (default) is no limit.
"""

from __future__ import annotations

import contextlib
import functools
import socket
import statistics
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from emulator.bench import Bench
from emulator.bench.privilege import ensure_network_privilege
from emulator.scenario import load_scenario

TURN_S = 1.0
KINDS = {
    "plain": [],
    "router": ["access.nat44=false", "access.inbound=true", "access.mtu=1500"],  # forwards, and remembers nothing
    "nat": ["access.nat44=true"],
    "all": ["access.nat44=true", "access.mss_clamp=true", "access.mtu=1500", "access.blocked_ports=['25']"],
}


def rate_gbps(bench: Bench) -> float:
    """Of one TCP connection from the terminal's side, over a second after a start of half a second."""
    server = bench.datacenter.namespace.run(functools.partial(socket.socket))
    client = bench.terminal.namespace.run(functools.partial(socket.socket))
    server.bind((bench.datacenter.ipv4, 0))
    server.listen()
    client.connect(server.getsockname())
    accepted, _ = server.accept()
    stop = threading.Event()

    def send() -> None:
        data = bytes(1 << 20)
        with client, contextlib.suppress(OSError):
            while not stop.is_set():
                client.sendall(data)

    sending = threading.Thread(target=send)
    sending.start()
    room = bytearray(1 << 20)
    began, start, size = time.monotonic(), 0.0, 0
    with server, accepted:
        while (now := time.monotonic()) < began + 0.5 + TURN_S:
            if now > began + 0.5:
                start = start or now
                size += accepted.recv_into(room)
            else:
                accepted.recv_into(room)
        stop.set()
    sending.join()
    return size * 8 / (time.monotonic() - start) / 1e9


def main(rate_mbps: float, rounds: int) -> None:
    ensure_network_privilege()
    common = ["link.delay_ms=0", f"link.rate_mbps={rate_mbps}", "link.queue_packets=10000"]
    found: dict[str, list[float]] = {kind: [] for kind in KINDS}
    with contextlib.ExitStack() as stack:
        benches = {
            kind: stack.enter_context(Bench(load_scenario("fixed", [*common, *more]))) for kind, more in KINDS.items()
        }
        for _ in range(rounds):
            for kind, bench in benches.items():
                found[kind].append(rate_gbps(bench))
            print(", ".join(f"{kind} {rates[-1]:.2f} Gbit/s" for kind, rates in found.items()), flush=True)
    for kind, rates in found.items():
        ratios = [rate / plain for rate, plain in zip(rates, found["plain"], strict=True)]
        print(f"{kind}: {statistics.median(ratios):.3f} of the plain link, median of {rounds} rounds")


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 0, int(sys.argv[2]) if len(sys.argv) > 2 else 9)
