"""`bentpipe run`: a bench that stays up until Ctrl-C, and then tells its counters."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from emulator.cli.bring_up import running_bench, summary, tell
from emulator.cli.options import (
    dish_option,
    duration_option,
    elements_option,
    json_option,
    nic_option,
    scenario_options,
    serving_options,
    start_option,
)
from emulator.errors import EndpointError
from emulator.scenario import Scenario
from emulator.units import NS_PER_S, format_utc

if TYPE_CHECKING:
    from emulator.bench import Bench, Counters
    from emulator.link.link import DirectionCounters, LaneCounters


@click.command()
@scenario_options()
@nic_option
@start_option
@elements_option
@duration_option(help_text="Stop after this long.  [default: Ctrl-C]")
@click.option("--isolate", is_flag=True, help="Give the datacenter's side a network namespace of its own.")
@click.option(
    "--fabric",
    type=click.Choice(["direct", "zmq"]),
    default="direct",
    show_default=True,
    help="How the packets cross: within this process, or over ZeroMQ, each end a process of its own.",
)
@dish_option
@serving_options
@click.option(
    "--ground-station",
    "schedule_port",
    type=click.IntRange(0, 65_535),
    help="Serve the ground-station service at this local port (0: a free one); its schedule opens and shuts the link.",
)
@click.option("--realtime", is_flag=True, help="Run the packet loop at real-time priority.")
@click.option("--quiet", is_flag=True, help="No live view.")
@json_option
def run(
    scenario: Scenario,
    start_utc_ns: int | None,
    elements: Path | None,
    duration_ns: int | None,
    isolate: bool,
    fabric: Literal["direct", "zmq"],
    dish: bool,
    log: Path | None,
    control: tuple[str, ...],
    telemetry: tuple[str, ...],
    keys: Path | None,
    schedule_port: int | None,
    realtime: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Keep a bench up until Ctrl-C, with a live view on stderr, and print its counters.

    `bentpipe enter` gives a shell at either side of this bench, `bentpipe ctl` changes its link, `bentpipe watch` shows
    what happens, and `bentpipe inject` sends it a packet.
    """
    stop = threading.Event()
    listener = _listener(schedule_port)
    with (
        running_bench(
            scenario,
            isolate=isolate,
            start_utc_ns=start_utc_ns,
            elements=elements,
            fabric=fabric,
            realtime=realtime,
            stop=stop,
            dish=dish,
            log=log,
            control=control,
            telemetry=telemetry,
            keys=keys,
        ) as bench,
        contextlib.ExitStack() as beside,
    ):
        if listener is not None:
            from emulator.bench.schedule import served_schedule

            tell(f"the ground-station service: {beside.enter_context(served_schedule(bench, listener))}")
        try:
            with contextlib.suppress(KeyboardInterrupt):
                if scenario.ports.kind != "nic":
                    tell(f"a shell at the terminal's side: bentpipe enter --bench {os.getpid()}")
                stay(bench, scenario, stop, duration_ns, quiet=quiet)
        except SystemExit:  # SIGTERM, SIGHUP: the counters all the same, then the status that says so
            show(bench, as_json=as_json)
            raise
        show(bench, as_json=as_json)


def _listener(port: int | None) -> socket.socket | None:
    """Listens where other programs of this machine find it, before an ordinary user gets a network of its own."""
    if port is None:
        return None
    try:
        return socket.create_server(("127.0.0.1", port))
    except OSError as error:
        raise EndpointError(f"127.0.0.1:{port}: {error.strerror}") from error


def show(bench: Bench, *, as_json: bool) -> None:
    """The counters, on stdout."""
    if as_json:
        click.echo(json.dumps(report(bench), indent=1))
    else:
        for line in summary(bench):
            click.echo(line)


def stay(bench: Bench, scenario: Scenario, stop: threading.Event, duration_ns: int | None, *, quiet: bool) -> None:
    """Until `stop`, the end of the duration, or Ctrl-C; looks after the packet loop meanwhile."""
    from emulator.cli.live import watch

    if not quiet:
        watch(bench, scenario.name, stop.is_set, duration_ns=duration_ns)
        return
    ends = None if duration_ns is None else time.monotonic() + duration_ns / NS_PER_S
    while not stop.wait(0.25) and (ends is None or time.monotonic() < ends):
        bench.counters()  # raises if the packet loop has failed


def report(bench: Bench) -> dict[str, Any]:
    """The counters and the link as JSON takes them."""
    from emulator.bench.punctuality import late_packets

    counters, now = bench.counters(), bench.state()
    return {
        "utc": format_utc(now.utc_ns),
        "scenario": bench.scenario.name,
        "seed": bench.scenario.seed,
        "satellite": now.satellite,
        "gateway": now.gateway,
        "memory_bytes": bench.memory_bytes,
        "tx_queue_packets": bench.scenario.ports.tx_queue_packets,
        "lateness_us": {f"p{percent:g}": lateness_us(counters, percent) for percent in (50, 99, 99.9)},
        "late_packets": late_packets(counters.relay.lateness_us),
        "ingress_wait_worst_us": counters.relay.ingress_wait_worst_ns // 1000,
        "timeline_starved": counters.relay.starved,
        "broken_batches": counters.relay.broken_batches,
        "ends": [asdict(end) for end in counters.relay.ends],
        "uplink": direction_report(counters.uplink, bench.scenario.class_names("uplink")),
        "downlink": direction_report(counters.downlink, bench.scenario.class_names("downlink")),
    }


def lateness_us(counters: Counters, percent: float) -> int:
    """By how many µs the loop was late with all but 100 − `percent` of the packets; the last bin stands for more."""
    below = counters.relay.lateness_us.cumsum()
    return int(below.searchsorted(below[-1] * percent / 100))


def direction_report(direction: DirectionCounters, classes: Sequence[str] = ()) -> dict[str, Any]:
    """A direction's counters as JSON takes them. classes: names of its queues, as `Scenario.class_names` has them."""
    lanes = [class_report(lane) for lane in direction.lanes]
    return {
        "offered_packets": direction.offered_packets,
        "offered_bytes": direction.offered_bytes,
        "delivered_packets": direction.delivered_packets,
        "delivered_bytes": direction.delivered_bytes,
        "held_packets": direction.held_packets,
        "dropped_packets": {cause.name.lower(): count for cause, count in direction.dropped.items()},
        "copied_packets": direction.copied_packets,
        "marked_packets": direction.marked_packets,
        "spoilt_packets": direction.spoilt_packets,
        "reordered_packets": direction.reordered_packets,
        "classes": [{"name": name, **lane} for name, lane in zip(classes, lanes, strict=True)] if classes else lanes,
    }


def class_report(lane: LaneCounters) -> dict[str, Any]:
    """A class's queue: its backlog, and what those have waited that have left it. Times in µs."""
    return {
        "offered_packets": lane.offered_packets,
        "dropped_packets": lane.dropped_packets,
        "marked_packets": lane.marked_packets,
        "queued_packets": lane.queued_packets,
        "queued_bytes": lane.queued_bytes,
        "worst_queue_packets": lane.worst_queue_packets,
        "mean_wait_us": lane.total_wait_ns / max(1, lane.served_packets) / 1000,
        "worst_wait_us": lane.worst_wait_ns / 1000,
        "waits": list(lane.waits),
        "delays": list(lane.delays),
    }
