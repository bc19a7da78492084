"""`bentpipe shell`: a command at the terminal's side of a link."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from emulator.cli.bring_up import running_bench, summary, tell
from emulator.cli.options import dish_option, duration_option, elements_option, scenario_options, start_option
from emulator.scenario import Scenario
from emulator.units import NS_PER_S

if TYPE_CHECKING:
    from emulator.bench import Bench
    from emulator.bench.sides import Side

LOOK_S = 0.5  # how often the link's health is looked at
SERVER_PATIENCE_S = 1.0  # a server gets this long to begin to listen before CMD starts
TIMED_OUT_STATUS = 124  # as timeout(1) says it


class Wrapping(click.Command):
    """A command whose last words are another one: says where the -- belongs that parts them."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        given = list(args)
        example = "`bentpipe shell fixed -- ping -c 1 192.0.2.1`"
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            if "--" in given:
                raise
            told = f"no such option {error.option_name!r}: if it is CMD's, put -- before CMD, as in {example}"
            raise click.UsageError(told, ctx) from error
        except click.MissingParameter as error:
            if "--" not in given[:-1]:
                raise
            raise click.UsageError(f"expected SCENARIO before the --, as in {example}", ctx) from error


@click.command(cls=Wrapping, context_settings={"ignore_unknown_options": False, "allow_interspersed_args": True})
@scenario_options()
@click.argument("command", nargs=-1, required=True, metavar="-- CMD...")
@start_option
@elements_option
@duration_option(help_text="End CMD after this long, with status 124.")
@click.option("--isolate", is_flag=True, help="Give the datacenter's side a network namespace of its own.")
@click.option(
    "--datacenter-cmd", metavar="LINE", help="A server to run by sh at the datacenter's side; implies --isolate."
)
@click.option(
    "--fabric",
    type=click.Choice(["direct", "zmq"]),
    default="direct",
    show_default=True,
    help="How the packets cross: within this process, or over ZeroMQ, each end a process of its own.",
)
@dish_option
@click.option("--realtime", is_flag=True, help="Run the packet loop at real-time priority.")
@click.option("--quiet", is_flag=True, help="Say nothing on stderr but errors.")
def shell(
    scenario: Scenario,
    command: tuple[str, ...],
    start_utc_ns: int | None,
    elements: Path | None,
    duration_ns: int | None,
    isolate: bool,
    datacenter_cmd: str | None,
    fabric: Literal["direct", "zmq"],
    dish: bool,
    realtime: bool,
    quiet: bool,
) -> int:
    """Run CMD at the terminal's side of the link of SCENARIO.

    $BENTPIPE_DATACENTER and $BENTPIPE_TERMINAL hold the IPv4 addresses, ...6 the IPv6 ones. The datacenter's side is
    this machine's own network, or with --isolate a namespace of its own. stdout is CMD's; the exit status is CMD's.
    What the datacenter's LINE prints goes to stderr: redirect it in LINE ('iperf3 -s >server.log') to keep it apart.

    \b
    bentpipe shell starlink_2025 -- sh -c 'ping -c 20 $BENTPIPE_DATACENTER'
    bentpipe shell fixed --set link.delay_ms=300 --datacenter-cmd 'iperf3 -s' -- sh -c 'iperf3 -c $BENTPIPE_DATACENTER'
    """
    from emulator.bench.commands import check_command

    check_command(command)
    if scenario.ports.kind == "nic":
        raise click.UsageError("ports.kind nic: the terminal's side is outside this machine; use `bentpipe run`")
    isolate = isolate or datacenter_cmd is not None
    with running_bench(
        scenario,
        isolate=isolate,
        start_utc_ns=start_utc_ns,
        elements=elements,
        fabric=fabric,
        realtime=realtime,
        quiet=quiet,
        dish=dish,
    ) as bench:
        if datacenter_cmd is not None:
            server = bench.datacenter.popen(
                ["sh", "-c", datacenter_cmd],
                stdin=subprocess.DEVNULL,
                stdout=sys.stderr.fileno(),
                process_group=0,  # the keyboard's signals are for CMD, which may well survive them
            )
            if not wait_for_server(server, bench.datacenter) and not quiet:
                ended = server.poll()
                found = "nothing listens at the datacenter's side yet"
                if ended is not None:
                    found = f"the datacenter's command has ended already, with status {ended}"
                tell(f"{found}: CMD starts all the same")
        with contextlib.ExitStack() as restore:
            for number in (signal.SIGINT, signal.SIGQUIT):  # the keyboard's signals are for CMD; we end when it ends
                restore.callback(signal.signal, number, signal.signal(number, signal.SIG_IGN))
            process = bench.terminal.popen(list(command))
            status = watch_over(process, bench, duration_ns, (lambda line: None) if quiet else tell)
        if not quiet:
            for line in summary(bench):
                tell(line)
    return status if status >= 0 else 128 - status


def watch_over(
    process: subprocess.Popen[Any], bench: Bench, duration_ns: int | None, say: Callable[[str], None]
) -> int:
    """The command's exit status, TIMED_OUT_STATUS after `duration_ns`: then `say` gets a line for the person.

    Raises EmulationError if the link fails.
    """
    ends = None if duration_ns is None else time.monotonic() + duration_ns / NS_PER_S
    while True:
        try:
            left_s = LOOK_S if ends is None else max(0.0, ends - time.monotonic())
            return process.wait(min(LOOK_S, left_s))
        except subprocess.TimeoutExpired:
            bench.counters()
        if ends is not None and time.monotonic() >= ends:
            process.terminate()
            say(f"CMD was ended after {(duration_ns or 0) / NS_PER_S:g} s (--duration)")
            return TIMED_OUT_STATUS


def wait_for_server(server: subprocess.Popen[Any], side: Side) -> bool:
    """Waits until something listens at `side`; False if nothing does before patience, or the server, has ended."""
    deadline = time.monotonic() + SERVER_PATIENCE_S
    while time.monotonic() < deadline and server.poll() is None:
        if side.namespace.run(_somebody_listens):
            return True
        time.sleep(0.02)
    return False


def _somebody_listens() -> bool:
    listening, unconnected = "0A", "07"  # net/tcp_states.h: TCP_LISTEN, and TCP_CLOSE for a bound UDP socket
    for name, wanted in (("tcp", listening), ("tcp6", listening), ("udp", unconnected), ("udp6", unconnected)):
        with contextlib.suppress(FileNotFoundError):
            lines = Path(f"/proc/thread-self/net/{name}").read_text().splitlines()[1:]
            if any(line.split()[3] == wanted for line in lines):
                return True
    return False
