"""The two side shows of a demo, each with clients that know nothing of us: an injected packet, a serial query."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from emulator.bench import Bench
from emulator.child import child_command
from emulator.errors import BentpipeError
from emulator.terminal import Terminal
from emulator.testing.record import Check
from emulator.testing.session import await_ready, end, program, start
from emulator.units import NS_PER_MS, parse_utc_ns
from firmware_stubs.nmea import checksum
from firmware_stubs.transport import SerialStub

if TYPE_CHECKING:
    import serial

INJECT_PORT = 7004
INJECT_LIMIT_S = 60.0  # scapy takes a second or two to import, and more on a busy machine
ARRIVAL_LIMIT_S = 3.0
ATTEMPTS = 3  # the link may lose the packet, and says so in its counters
PAYLOAD = "hello from scapy"
SERIAL_BAUD = 9600
SERIAL_LIMIT_S = 3.0
SENTENCES_READ = 40  # once a second the receiver speaks unasked, and the answer comes after or in between


@dataclass(frozen=True)
class Shown:
    """What came of it, and the simulated UTC at which it was done, if it has one."""

    check: Check
    utc_ns: int | None = None


def inject_packet(bench: Bench) -> Shown:
    """`bentpipe inject` in a process of its own sends a packet, and a real socket at the far side gets it.

    The bench's control socket must be served.
    """
    what = "a packet made with scapy, injected into the uplink"
    expression = f"IP(dst=datacenter)/UDP(sport={INJECT_PORT}, dport={INJECT_PORT})/{PAYLOAD!r}"
    for attempt in range(1, ATTEMPTS + 1):
        catcher = start(
            bench.datacenter,
            program("catch", "--port", INJECT_PORT, "--timeout", INJECT_LIMIT_S),
            stderr=subprocess.DEVNULL,
        )
        try:
            if not await_ready(catcher):
                return Shown(Check(what=what, passed=False, outcome="the socket at the datacenter could not be opened"))
            sent = _run_inject(expression)
            if sent.returncode != 0:
                fault = (sent.stderr.strip().splitlines() or [f"exit status {sent.returncode}"])[-1]
                return Shown(Check(what=what, passed=False, outcome=f"bentpipe inject: {fault}"))
            caught = _caught(catcher)
        finally:
            end(catcher)
        if caught is not None:
            sent_ns = parse_utc_ns(json.loads(sent.stdout)["utc"])
            took_ms = (bench.utc_of_monotonic_ns(caught["monotonic_ns"]) - sent_ns) / NS_PER_MS
            text = bytes.fromhex(caught["payload"]).decode(errors="replace")
            again = "" if attempt == 1 else f", at attempt {attempt}: the link lost the one before"
            outcome = f"{text!r} from {caught['from']} came to a socket at the datacenter {took_ms:.0f} ms later{again}"
            return Shown(Check(what=what, passed=text == PAYLOAD, outcome=outcome), sent_ns)
    fault = f"{ATTEMPTS} packets were sent and none came within {ARRIVAL_LIMIT_S:g} s"
    return Shown(Check(what=what, passed=False, outcome=fault))


def _run_inject(expression: str) -> subprocess.CompletedProcess[str]:
    command = child_command("emulator.cli.main", "inject", "--json", "--bench", os.getpid(), expression)
    try:
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=INJECT_LIMIT_S,
            check=False,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 124, "", f"it took longer than {INJECT_LIMIT_S:g} s")


def _caught(catcher: subprocess.Popen[str]) -> dict[str, Any] | None:
    try:
        said, _ = catcher.communicate(timeout=ARRIVAL_LIMIT_S)
    except subprocess.TimeoutExpired:
        return None
    return json.loads(said) if catcher.returncode == 0 else None


def query_receiver(bench: Bench) -> Shown:
    """Pyserial asks the terminal's GNSS receiver, a stub behind a serial line, for a fix, and for its name."""
    import serial

    what = "a GNSS receiver asked on a serial line (NMEA 0183)"
    try:
        terminal = Terminal.from_scenario(bench.scenario)
        with (
            SerialStub("nmea", terminal.state, utc_ns=bench.utc_ns, directory=bench.runtime_dir) as stub,
            serial.Serial(str(stub.path), SERIAL_BAUD, timeout=SERIAL_LIMIT_S) as line,
        ):
            name = _ask(line, "PMTK605", "$PMTK705")
            fix = _ask(line, "EIGPQ,GGA", "$GPGGA")
    except (BentpipeError, serial.SerialException, OSError) as error:
        return Shown(Check(what=what, passed=False, outcome=str(error)))
    if not name or not fix:
        return Shown(Check(what=what, passed=False, outcome=f"no answer within {SERIAL_LIMIT_S:g} s"))
    return Shown(Check(what=what, passed=_place_is(fix, terminal), outcome=f"{name} answered {fix}"))


def _ask(line: serial.Serial, body: str, begins: str) -> str:
    """The first sentence that begins so, of those that follow the query; empty if none came."""
    line.reset_input_buffer()
    line.write(f"${body}*{checksum(body):02X}\r\n".encode("ascii"))
    for _ in range(SENTENCES_READ):
        said = line.readline().decode("ascii", errors="replace").strip()
        if said.startswith(begins):
            return str(said)
        if not said:
            break
    return ""


def _place_is(gga: str, terminal: Terminal) -> bool:
    """Whether the fix is within 0.001′ of where the scenario put the terminal."""
    fields = gga.split(",")
    try:
        latitude = (float(fields[2][:2]) + float(fields[2][2:]) / 60) * (1 if fields[3] == "N" else -1)
        longitude = (float(fields[4][:3]) + float(fields[4][3:]) / 60) * (1 if fields[5] == "E" else -1)
    except (IndexError, ValueError):
        return False
    return abs(latitude - terminal.latitude_deg) < 2e-5 and abs(longitude - terminal.longitude_deg) < 2e-5
