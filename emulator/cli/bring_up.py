"""What the commands that run a bench share: privilege first, a bench with its control socket, an orderly end."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Literal

import click

from emulator.bench.privilege import ensure_network_privilege
from emulator.ports.curve import open_doors
from emulator.scenario import Scenario
from emulator.units import NS_PER_MS, count_of

if TYPE_CHECKING:
    from emulator.bench import Bench
    from emulator.bench.dish import BenchDish
    from emulator.ports.accounts import EndCounters
    from emulator.testing.scripts import Script

COMPILING = "compiling the packet path for this machine, once: 15 s, on a busy machine a minute …"

TERMINATED_STATUS = {signal.SIGTERM: 143, signal.SIGHUP: 129}  # 128 + signal, as shells count


def tell(line: str) -> None:
    """A line for the person, on stderr: stdout is data."""
    click.echo(f"bentpipe: {line}", err=True)


def end_in_order() -> None:
    """SIGTERM and SIGHUP end what runs in order, and the process with the status that a shell expects."""

    def terminated(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(TERMINATED_STATUS[signal.Signals(number)])

    for number in TERMINATED_STATUS:
        signal.signal(number, terminated)


@contextlib.contextmanager
def running_bench(
    scenario: Scenario,
    *,
    isolate: bool,
    start_utc_ns: int | None = None,
    elements: Path | None = None,
    fabric: Literal["direct", "zmq"] = "direct",
    realtime: bool = False,
    quiet: bool = False,
    stop: threading.Event | None = None,
    dish: bool = False,
    log: Path | None = None,
    control: Sequence[str] = (),
    telemetry: Sequence[str] = (),
    keys: Path | None = None,
    listen: Sequence[str] = (),
) -> Iterator[Bench]:
    """A bench that carries packets and answers on its control socket; `stop` is set when a client asks it to end.

    `dish`: clients at the terminal's side find a Starlink dish. control, telemetry: endpoints beside those in the
    runtime directory, for which tcp:// needs `keys`. log: a file for the events. listen: where the ends of a bench in
    three parts find its link.

    SIGTERM and SIGHUP end the block in order, and the process with the status that a shell expects.
    """
    doors = open_doors((*control, *telemetry, *listen), keys)  # before an ordinary user gets a network of its own
    if dish and scenario.ports.kind == "nic":
        raise click.UsageError("--dish needs a terminal's side on this machine, and ports.kind nic has none")
    if not listen:
        ensure_network_privilege()  # before anything that starts threads is imported
    from emulator.bench import Bench
    from emulator.bench.fabrics import Listening
    from emulator.control.session import session
    from emulator.ports import fabric as zmq_fabric
    from emulator.ports import relay

    end_in_order()
    compiled = relay.is_compiled() if fabric == "direct" and not listen else zmq_fabric.is_compiled()
    if not compiled and not quiet:
        tell(COMPILING)
    bench = Bench(
        scenario,
        start_utc_ns=start_utc_ns,
        isolate=isolate,
        fabric=fabric,
        realtime=realtime,
        elements=elements,
        on_warning=None if quiet else tell,
        log=log,
        listening=Listening(tuple(listen), keys, doors) if listen else None,
    )
    on_stop = stop.set if stop is not None else None
    with contextlib.ExitStack() as running:
        running.enter_context(bench)
        running.enter_context(
            session(bench, on_stop=on_stop, control=control, telemetry=telemetry, keys=keys, doors=doors)
        )
        served = running.enter_context(_dish(bench)) if dish else None
        if scenario.script:
            from emulator.testing.scripts import Script

            told = (lambda performed: None) if quiet else (lambda performed: tell(str(performed)))
            script = Script(bench, scenario.script, told)
            if not quiet:
                running.callback(tell_pending, script)
            running.enter_context(script)
        if not quiet:
            sky = bench.state()
            tell(
                f"{scenario.name or 'scenario'}, seed {scenario.seed}: "
                f"terminal {bench.terminal.ipv4 or bench.terminal.port.name} → "
                f"datacenter {bench.datacenter.ipv4 or bench.datacenter.port.name}"
                + (f", by {sky.satellite} and {sky.gateway}" if sky.satellite else "")
            )
            if served is not None:
                tell(f"the dish: gRPC at {served.host}:{served.port} of the terminal's side, gRPC-Web one port above")
            if bench.antenna is not None and bench.antenna.address:
                tell(f"the antenna: rotctld at {bench.antenna.address}")
            for name, one in (bench.network.paths.benches or {"": bench}).items():
                whose = "" if one is bench else f" of path {name}"
                for kind, address in one.devices.addresses if one.devices is not None else []:
                    tell(f"{kind}{whose}: {address}")
        try:
            yield bench
        finally:
            sys.stdout.flush()


def tell_pending(script: Script) -> None:
    """The steps whose moment the bench did not live to see."""
    for performed in script.performed:
        if performed.outcome == "pending":
            tell(f"{performed}: the bench ended before")


def _dish(bench: Bench) -> BenchDish:
    from emulator.bench.dish import BenchDish

    return BenchDish(bench)


def summary(bench: Bench) -> list[str]:
    """A line per direction: what was offered, delivered, dropped by cause and is still under way; one for late ones."""
    from emulator.bench.punctuality import LATE_US, late_packets
    from emulator.testing.verdicts.evidence import counted

    lines = []
    counters = bench.counters()
    if late := late_packets(counters.relay.lateness_us):
        lines.append(f"late: {count_of(late, 'packet')} left more than {LATE_US / 1000:g} ms after the due time")
    lines += [counted("uplink", counters.uplink), counted("downlink", counters.downlink)]
    lines += [end_line(end) for end in counters.relay.ends]
    return lines


def end_line(end: EndCounters) -> str:
    """What became of an end of the fabric, and how well its clock is known."""
    clock = end.clock
    told = "this machine's clock" if clock.shared else f"clock {clock.offset_ns / NS_PER_MS:+.3f} ms from ours"
    late = (
        f", {end.late_packets} came late, by up to {end.late_worst_ns / NS_PER_MS:.1f} ms" if end.late_packets else ""
    )
    lost = f", {end.lost_packets + end.died_packets} lost" if end.lost_packets + end.died_packets else ""
    connected = f"{'connected' if end.connected else 'not connected'}, {count_of(end.connections, 'time')}"
    return (
        f"{end.role}'s end: {connected}; {told}, "
        f"± {clock.error_ns / 1000:.0f} µs, drift {clock.drift_ppm:+.1f} ppm, "
        f"round trip {clock.round_trip_ns / NS_PER_MS:.2f} ms{late}{lost}"
    )
