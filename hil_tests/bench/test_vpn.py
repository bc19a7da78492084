"""WireGuard in user space over `vpn`: the public address changes twice, and a connection inside does not notice."""

from __future__ import annotations

import contextlib
import functools
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from emulator.bench import Bench
from emulator.bench.sides import Side
from hil_tests.bench.field import PATIENCE_S, connected, keep, run, running
from hil_tests.bench.living import until

pytestmark = [
    pytest.mark.needs("netns", "tun", "root", "compiled", "nft"),
    pytest.mark.usefixtures("nothing_left"),
    pytest.mark.long,
]
CHANGES_S, END_S = (12.0, 20.0), 28.0
INSIDE = {"wgd": "10.99.0.1", "wgt": "10.99.0.2"}
PACE_S = 0.05


def answers(side: Side, *command: str) -> bool:
    return run(side, *command).returncode == 0


def tunnel(bench: Bench, folder: Path) -> None:
    """One end of WireGuard at each side; the datacenter's learns where the terminal's is from its packets."""
    public = {}
    for name in INSIDE:
        private = subprocess.run(["wg", "genkey"], capture_output=True, text=True, check=True).stdout
        (folder / name).touch(0o600)
        (folder / name).write_text(private)
        made = subprocess.run(["wg", "pubkey"], input=private, capture_output=True, text=True, check=True)
        public[name] = made.stdout.strip()
    for side, name, other in ((bench.datacenter, "wgd", "wgt"), (bench.terminal, "wgt", "wgd")):
        side.popen(["wireguard-go", "-f", name], stderr=subprocess.DEVNULL)
        until(functools.partial(answers, side, "wg", "show", name))
        more = ["listen-port", "51820"] if name == "wgd" else []
        peer = ["peer", public[other], "allowed-ips", f"{INSIDE[other]}/32"]
        if name == "wgt":
            peer += ["endpoint", f"{bench.datacenter.ipv4}:51820", "persistent-keepalive", "1"]
        for command in (
            ["wg", "set", name, "private-key", str(folder / name), *more, *peer],
            ["ip", "address", "add", f"{INSIDE[name]}/24", "dev", name],
            ["ip", "link", "set", name, "up", "mtu", "1420"],
        ):
            assert run(side, *command).returncode == 0


class Echoes:
    """Sends its age twenty times a second over a connection, to an end that sends it back, and notes what returns."""

    def __init__(self, client: socket.socket, accepted: socket.socket, began_s: float) -> None:
        self.client, self.accepted, self.began_s = client, accepted, began_s
        self.round_trips: list[tuple[float, float]] = []
        self.failure = ""
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=work) for work in (self._send, self._echo, self._listen)]
        for thread in self._threads:
            thread.start()

    def _now(self) -> float:
        return time.monotonic() - self.began_s

    def _send(self) -> None:
        with contextlib.suppress(OSError):
            while not self._stop.wait(PACE_S):
                self.client.sendall(f"{self._now():015.6f}\n".encode())

    def _echo(self) -> None:
        with contextlib.suppress(OSError):
            while data := self.accepted.recv(4096):
                self.accepted.sendall(data)

    def _listen(self) -> None:
        try:
            for line in self.client.makefile("rb"):
                sent = float(line)
                self.round_trips.append((sent, self._now() - sent))
        except OSError as error:
            self.failure = type(error).__name__

    def close(self) -> None:
        self._stop.set()
        for end in (self.client, self.accepted):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for end in (self.client, self.accepted):
            end.close()


@contextlib.contextmanager
def inside_the_tunnel(bench: Bench) -> Iterator[tuple[socket.socket, socket.socket]]:
    server = bench.datacenter.namespace.run(socket.socket)
    client = bench.terminal.namespace.run(socket.socket)
    with server:
        server.bind((INSIDE["wgd"], 5000))
        server.listen()
        client.settimeout(PATIENCE_S)
        client.connect((INSIDE["wgd"], 5000))
        accepted, _ = server.accept()
    yield client, accepted


@pytest.mark.needs("wg", "wireguard-go")
def test_a_tunnel_follows_the_terminal_and_a_connection_beside_it_is_lost(tmp_path: Path) -> None:
    with running("vpn") as bench:
        tunnel(bench, tmp_path)
        began_s = bench.started_monotonic_ns / 1e9
        with inside_the_tunnel(bench) as ends:
            assert time.monotonic() - began_s < CHANGES_S[0] - 2, "the machine is too slow for this scenario's times"
            both = {"inside": Echoes(*ends, began_s)}
            both["beside"] = Echoes(*connected(bench.terminal, bench.datacenter), began_s)
            seen: list[tuple[float, str]] = []

            def look() -> bool:
                told = run(bench.datacenter, "wg", "show", "wgd", "endpoints").stdout.split()
                seen.append((time.monotonic() - began_s, told[1].rpartition(":")[0]))
                return seen[-1][0] > END_S

            until(look)
            for echoes in both.values():
                echoes.close()
    measured = {name: echoes.round_trips for name, echoes in both.items()}
    keep("vpn", round_trips=measured, endpoints=seen, changes=CHANGES_S)
    assert list(dict.fromkeys(address for _, address in seen)) == ["198.19.0.0", "198.19.0.1", "198.19.0.2"]
    times = [at for at, _ in measured["inside"]]
    assert times == sorted(times)
    assert len(times) == len(set(times))
    assert times[-1] > CHANGES_S[1] + 4, "it goes on after the second change"
    assert both["beside"].failure == "ConnectionResetError"
    assert measured["beside"][-1][0] < CHANGES_S[0] + 1, "the first change is its end"
    slowest = max(seconds for _, seconds in measured["inside"])
    print(f"slowest round trip inside: {slowest * 1000:.0f} ms; beside it: {both['beside'].failure}")
