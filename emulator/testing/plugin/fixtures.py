"""The fixtures: a bench per test, its two sides, its dish and its serial stubs."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from emulator.errors import (
    EmulationError,
    EndpointError,
    InterfaceError,
    PrivilegeError,
    ToolMissingError,
)
from emulator.testing.plugin.settings import LATCH, Wish, settings_of

if TYPE_CHECKING:
    from emulator.bench.dish import BenchDish
    from emulator.testing.plugin.processes import TestSide
    from emulator.testing.plugin.satlink import Satlink

BREAKS_THE_BENCH = (EmulationError, EndpointError, InterfaceError, PrivilegeError, ToolMissingError)


@pytest.fixture
def satlink(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Satlink]:
    """A running bench, as mark `satlink` and the command line want it. It carries packets from now on."""
    settings, latch = settings_of(request.config), request.config.stash[LATCH]
    wish = settings.wish(list(request.node.iter_markers("satlink")))
    _check_needs(wish)
    if latch.reason:
        pytest.skip(f"the bench is broken: {latch.reason}")
    with contextlib.ExitStack() as stack:
        link = None
        try:
            link = stack.enter_context(_running(request, wish, tmp_path_factory.mktemp("satlink")))
            yield link
        except BREAKS_THE_BENCH as error:
            if link is None:
                latch.close(f"since {request.node.nodeid}: {type(error).__name__}: {error}")
            raise
        finally:
            if link is not None:
                try:
                    link.counters()
                except EmulationError as error:
                    latch.close(f"since {request.node.nodeid}: {error}")


@contextlib.contextmanager
def _running(request: pytest.FixtureRequest, wish: Wish, folder: Path) -> Iterator[Satlink]:
    from emulator.bench.privilege import ensure_network_privilege

    try:
        ensure_network_privilege()
    except PrivilegeError as error:
        raise PrivilegeError(f"{error}; give pytest a --bench, which moves it there at its start") from error
    from emulator.bench import Bench
    from emulator.bench.readiness import await_carrier, await_lock
    from emulator.bench.runtime import runtime_root
    from emulator.ports.relay import is_compiled
    from emulator.testing.plugin.cores import core
    from emulator.testing.plugin.satlink import Satlink
    from emulator.testing.verdicts import Limits
    from emulator.units import format_utc

    settings = settings_of(request.config)
    scenario = settings.scenario(wish)
    tell = _teller(request.config)
    if not is_compiled():
        tell("compiling the packet path for this machine, once: 15 s, on a busy machine a minute …")
    with core(settings.cores, directory=runtime_root(), longest_wait_s=settings.longest_wait_s, tell=tell):
        windows = settings.windows(scenario, wish.start_utc_ns if wish.start_utc_ns is not None else time.time_ns())
        with Bench(scenario, start_utc_ns=wish.start_utc_ns, windows=windows) as bench:
            await_carrier(bench)
            await_lock(bench)
            limits = Limits(lateness_p99_us=settings.lateness_us)
            link = Satlink(bench, folder, title=request.node.nodeid, limits=limits)
            request.node.user_properties += [
                ("satlink_scenario", scenario.name),
                ("satlink_seed", scenario.seed),
                ("satlink_start", format_utc(link.start_utc_ns, 9)),
            ]
            with contextlib.closing(link):
                if settings.capture != "none":
                    link.capture()
                if settings.report is not None:
                    link.watch()
                yield link


@pytest.fixture
def terminal(satlink: Satlink) -> TestSide:
    """The terminal's side of the bench: where the user's own client runs."""
    return satlink.terminal


@pytest.fixture
def datacenter(satlink: Satlink) -> TestSide:
    """The datacenter's side of the bench: where the user's own server runs."""
    return satlink.datacenter


@pytest.fixture
def dish(satlink: Satlink) -> Iterator[BenchDish]:
    """A Starlink dish at `dish.host`:`dish.port` of the terminal's side, gRPC-Web one port above."""
    from emulator.bench.dish import BenchDish

    with BenchDish(satlink.bench) as served:
        yield served


@pytest.fixture
def serial_stub(satlink: Satlink) -> Iterator[Callable[[str], str]]:
    """What a client opens to reach one of the terminal's serial interfaces: `serial_stub("nmea")`.

    A device that the bench's file names, stub or hardware, if it has one of that kind; otherwise a stub is served.
    """
    from firmware_stubs.transport import SerialStub

    bench = satlink.bench
    own = dict(reversed(bench.devices.addresses)) if bench.devices is not None else {}
    with contextlib.ExitStack() as stack:

        def serve(kind: str) -> str:
            if kind in own:
                return own[kind]
            stub = SerialStub(kind, bench.place.state, utc_ns=bench.utc_ns, directory=bench.runtime_dir)
            return stack.enter_context(stub).address

        yield serve


def _check_needs(wish: Wish) -> None:
    """Skips the test if the machine lacks a program, or with `python:NAME` a package, that it needs."""
    for need in wish.needs:
        package = need.removeprefix("python:")
        there = find_spec(package) if package != need else shutil.which(need)
        if there is None:
            pytest.skip(f"needs {need}, which this machine does not have")


def _teller(config: pytest.Config) -> Callable[[str], None]:
    """Tells the person at the terminal; an xdist worker has none."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    return (lambda line: reporter.write_line(f"bentpipe: {line}")) if reporter else (lambda line: None)
