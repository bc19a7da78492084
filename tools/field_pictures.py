"""Draws the pictures of docs/ that show the surroundings of the link at work, from live benches.

    tools/with report -- python tools/field_pictures.py pep docs/pictures/pep.png
    tools/with report -- python tools/field_pictures.py datacenter docs/pictures/modular_datacenter.png

Needs root (or user namespaces), nft, and bird for the second. Takes a minute and more.
"""

from __future__ import annotations

import functools
import socket
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from emulator.bench import Bench
from emulator.bench.privilege import ensure_network_privilege
from emulator.bench.sides import Side
from emulator.scenario import load_scenario
from emulator.scenario.model import OverlayEvent
from emulator.units import parse_utc_ns

START_NS = parse_utc_ns("2025-05-29T23:20:50Z")
SEND_BUFFER = "4096 16384 4194304"  # the kernel's default limit of 4 MB, told so that it is the same everywhere


def inside(side: Side, *arguments: int) -> socket.socket:
    return side.namespace.run(functools.partial(socket.socket, *arguments))


def download(overrides: list[str], seconds: float) -> tuple[list[float], list[float]]:
    """Seconds since the request, and MB received by then."""
    with Bench(load_scenario("geo_dvbs2", overrides), start_utc_ns=START_NS) as bench:
        wmem = Path("/proc/sys/net/ipv4/tcp_wmem")
        bench.datacenter.namespace.run(lambda: wmem.write_text(SEND_BUFFER))
        server = inside(bench.datacenter)
        server.bind((bench.datacenter.ipv4, 0))
        server.listen()
        stop = threading.Event()

        def serve() -> None:
            connection, _ = server.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"cubic")
            connection.settimeout(1)
            with connection:
                connection.recv(1)
                while not stop.is_set():
                    try:
                        connection.send(bytes(1 << 16))
                    except TimeoutError:
                        continue
                    except OSError:
                        return

        thread = threading.Thread(target=serve)
        thread.start()
        times, received = [0.0], [0.0]
        with inside(bench.terminal) as client:
            began = time.monotonic()
            client.connect(server.getsockname())
            client.sendall(b"?")
            while (now := time.monotonic() - began) < seconds:
                received.append(received[-1] + len(client.recv(1 << 18)) / 1e6)
                times.append(now)
            stop.set()
        thread.join()
        server.close()
    return times, received


def draw_pep(path: Path) -> None:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 4.2), layout="constrained")
    for label, overrides in {"end to end": [], "split at terminal and gateway": ["pep.buffer_bytes=8000000"]}.items():
        times, received = download(overrides, 30)
        axes.plot(times, received, label=f"{label}: {received[-1]:.0f} MB in 30 s")
        early = next((at for at, size in zip(times, received, strict=True) if size >= 1), None)
        print(f"{label}: {received[-1]:.1f} MB in 30 s, first MB after {early} s")
    axes.set(xlabel="seconds since the client began to connect", ylabel="MB received", xlim=(0, 30), ylim=(0, None))
    axes.set_title("One download over a geostationary satellite (geo_dvbs2), TCP cubic")
    axes.legend(frameon=False)
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=130)


def draw_datacenter(path: Path) -> None:
    import matplotlib.pyplot as plt

    seconds, cut_at, cut_for = 50.0, 16.0, 16.0
    times: list[float] = []
    round_trips_ms: list[float] = []
    with (
        tempfile.TemporaryDirectory() as folder,
        Bench(load_scenario("modular_datacenter"), start_utc_ns=START_NS) as bench,
    ):
        configurations = Path(__file__).resolve().parent.parent / "configs" / "bird"
        for side in (bench.terminal, bench.datacenter):
            words = ["bird", "-f", "-D", f"{folder}/{side.name}.log", "-c", str(configurations / f"{side.name}.conf")]
            side.popen([*words, "-s", f"{folder}/{side.name}.ctl"])
        far, near = (inside(side, socket.AF_INET, socket.SOCK_DGRAM) for side in (bench.datacenter, bench.terminal))
        far.bind(("198.18.62.1", 7))
        near.bind(("198.18.62.2", 0))
        near.settimeout(2)
        stop = threading.Event()

        def echo() -> None:
            far.settimeout(0.5)
            while not stop.is_set():
                try:
                    data, peer = far.recvfrom(100)
                    far.sendto(data, peer)
                except OSError:
                    continue

        began = time.monotonic()
        first_s = bench.utc_ns() / 1e9

        def listen() -> None:
            while not stop.is_set():
                try:
                    sent = float(near.recv(100))
                except OSError:
                    continue
                times.append(sent)
                round_trips_ms.append((time.monotonic() - began - sent) * 1000)

        threads = [threading.Thread(target=work) for work in (echo, listen)]
        for thread in threads:
            thread.start()
        cut = None
        while (now := time.monotonic() - began) < seconds:
            if cut is None and now >= cut_at:
                cut = bench.apply(OverlayEvent(kind="outage", at_s=0, duration_s=cut_for)) / 1e9 - began
            near.sendto(f"{now:.6f}".encode(), ("198.18.62.1", 7))
            time.sleep(0.02)
        time.sleep(1)
        stop.set()
        for thread in threads:
            thread.join()
        log = Path(folder, "terminal.log").read_text()
    assert cut is not None
    print("".join(line + "\n" for line in log.splitlines() if "fibre" in line or "leo" in line))
    lost = [at for at in times if at < cut][-1], next(at for at in times if at > cut)
    print(f"no answer to what was sent from {lost[0]:.2f} to {lost[1]:.2f} s: {(lost[1] - lost[0]) * 1000:.0f} ms")
    figure, axes = plt.subplots(figsize=(8, 4.2), layout="constrained")
    axes.plot(times, round_trips_ms, ".", markersize=2)
    axes.axvspan(cut, cut + cut_for, alpha=0.12, color="tab:red", label="fibre cut")
    boundary = -((first_s - 12) % 15) + 15  # seconds 12, 27, 42, 57 of each UTC minute
    while boundary < seconds:
        axes.axvline(boundary, color="grey", linewidth=0.5, linestyle=":")
        boundary += 15
    axes.axvline(-1, color="grey", linewidth=0.5, linestyle=":", label="slot boundary of Starlink")
    axes.set(xlabel="seconds", ylabel="round trip, ms", xlim=(0, seconds), ylim=(0, 120))
    axes.set_title(f"modular_datacenter: BGP and BFD; {(lost[1] - lost[0]) * 1000:.0f} ms without an answer at the cut")
    axes.legend(frameon=False, loc="upper right")
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    ensure_network_privilege()
    {"pep": draw_pep, "datacenter": draw_datacenter}[sys.argv[1]](Path(sys.argv[2]))
