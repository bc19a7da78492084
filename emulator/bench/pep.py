"""The performance-enhancing proxy of a bench: its two ends, the rules that lead TCP to them, and what if one dies.

RFC 3135. The terminal's end takes connections by redirection, where they begin; the gateway's by TPROXY, where they
come off the link. Only TCP is led there: QUIC and tunnels pass by, as in the field.
"""

from __future__ import annotations

import contextlib
import json
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from socket import AF_INET, AF_INET6
from typing import Any

from emulator.bench import pep_end
from emulator.bench.pep_end import STATISTICS
from emulator.bench.sides import Side
from emulator.errors import BentpipeError, EmulationError
from emulator.ports import wires
from emulator.ports.access import EVERYWHERE4, EVERYWHERE6, PEP_MARK, SATELLITE, AccessNetwork
from emulator.ports.namespace import Namespace
from emulator.ports.nft import apply_rules
from emulator.scenario.access import Pep

PORT = 5045  # of either end, in namespaces of our own
DELIVERY_MARK = PEP_MARK + 1  # on what the gateway's end takes off its way
TABLE = PEP_MARK  # of routes, for marked packets
KNOWN = f"meta l4proto tcp socket transparent 1 meta mark set {DELIVERY_MARK} accept"
# Connections to come; those that are open are still led, for their resets are yet to cross the link. In chains that
# translate only first packets are looked at; without the rules behind, the kernel would forget whom it has redirected.
UNSPLIT = {
    "terminal": "insert rule inet pep output accept\ninsert rule inet pep passing accept\n",
    "gateway": f"flush chain inet pep entry\nadd rule inet pep entry {KNOWN}\n",
}


@dataclass(frozen=True)
class PepCounts:
    """One end's counters. `resets`: connections that were open when it died."""

    accepted: int
    open: int
    failed: int
    bytes_from_terminal: int
    bytes_to_terminal: int
    resets: int = 0


class Proxy:
    """Both ends, running. Raises EmulationError if one does not start, InterfaceError if the rules are refused."""

    def __init__(
        self, pep: Pep, terminal: Side, gateway: Side, access: AccessNetwork, folder: Path, warn: Callable[[str], None]
    ) -> None:
        self._warn = warn
        self._stopping = False
        self._files: dict[str, Path] = {}
        self._resets = {"terminal": 0, "gateway": 0}
        self._ends: dict[str, subprocess.Popen[str]] = {}
        self._rules = {"terminal": terminal.namespace, "gateway": gateway.namespace}
        spoofed = [AF_INET6] if access.access.nat44 else [AF_INET, AF_INET6]
        sizes = f"4096 131072 {max(131_072, pep.buffer_bytes)}"  # where the kernel sizes buffers, it may go so far
        wires.set_kernel(gateway.namespace, {"ipv4.tcp_rmem": sizes, "ipv4.tcp_wmem": sizes})
        try:
            for name, side, spoof in (("terminal", terminal, []), ("gateway", gateway, spoofed)):
                options = {
                    "port": PORT,
                    "mark": PEP_MARK,
                    "transparent": name == "gateway",
                    "spoof": [int(family) for family in spoof],
                    "congestion_control": pep.congestion_control,
                    "buffer_bytes": pep.buffer_bytes,
                    "statistics": str(folder / f"pep-{name}"),
                }
                self._start(name, side, options)
            _lead(terminal.namespace, terminal.port.name, pep.initial_window_packets, PEP_MARK)
            _deliver(gateway.namespace)
            apply_rules(gateway.namespace, gateway_rules(pep))
            apply_rules(terminal.namespace, terminal_rules(pep, terminal.port.name))
        except BaseException:
            self.close()
            raise
        for name, end in self._ends.items():
            threading.Thread(target=self._watch, args=(name, end), name=f"pep-{name}", daemon=True).start()

    def _start(self, name: str, side: Side, options: dict[str, Any]) -> None:
        self._files[name] = Path(options["statistics"])
        self._files[name].write_bytes(bytes(8 * len(STATISTICS)))
        command = [sys.executable, "-I", "-S", pep_end.__file__, json.dumps(options)]
        end = side.popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self._ends[name] = end
        assert end.stdout is not None
        assert end.stderr is not None
        if end.stdout.readline() != "ready\n":
            said = end.stderr.read().strip()
            wanted = f"pep.congestion_control {options['congestion_control']!r}: " if "No such file" in said else ""
            raise EmulationError(f"the proxy's end at the {name} did not start: {wanted}{said}")

    def _watch(self, name: str, end: subprocess.Popen[str]) -> None:
        status = end.wait()
        if self._stopping:
            return
        self._resets[name] = self.counts()[name].open
        for side, space in self._rules.items():
            with contextlib.suppress(BentpipeError, OSError):
                apply_rules(space, UNSPLIT[side])
        how = signal.Signals(-status).name if status < 0 else f"status {status}"
        self._warn(
            f"the proxy's end at the {name} has ended ({how}): {self._resets[name]} connections reset; "
            "TCP goes unsplit from now on"
        )

    def counts(self) -> dict[str, PepCounts]:
        """Counters of either end, by its name."""
        found = {}
        for name, path in self._files.items():
            numbers = struct.unpack(f"{len(STATISTICS)}q", path.read_bytes())
            found[name] = PepCounts(**dict(zip(STATISTICS, numbers, strict=True)), resets=self._resets[name])
        return found

    @property
    def pids(self) -> dict[str, int]:
        """The guardians of either end's process."""
        return {name: end.pid for name, end in self._ends.items()}

    def close(self) -> None:
        """Ends both ends."""
        self._stopping = True
        for end in self._ends.values():
            end.terminate()
        for end in self._ends.values():
            end.wait()
            for stream in (end.stdout, end.stderr):
                if stream is not None:
                    stream.close()


def _ports(pep: Pep) -> str:
    return f"tcp dport {{ {', '.join(pep.ports)} }}" if pep.ports else "meta l4proto tcp"


def terminal_rules(pep: Pep, link: str) -> str:
    """Redirects what begins at the terminal's side, or passes it on its way to the link."""
    return f"""table inet pep {{
chain output {{ type nat hook output priority -100; policy accept;
oifname "{link}" meta mark != {PEP_MARK} {_ports(pep)} redirect to :{PORT}
}}
chain passing {{ type nat hook prerouting priority -100; policy accept;
iifname != "{link}" fib daddr type != local {_ports(pep)} redirect to :{PORT}
}}
}}
"""


def gateway_rules(pep: Pep) -> str:
    """Takes off the link what is meant for others, and what comes back to connections of our own."""
    return f"""table inet pep {{
chain entry {{ type filter hook prerouting priority -150; policy accept;
{KNOWN}
iifname "{SATELLITE}" {_ports(pep)} tproxy to :{PORT} meta mark set {DELIVERY_MARK} accept
}}
}}
"""


def _families() -> list[tuple[int, wires.Network]]:
    six: list[tuple[int, wires.Network]] = [(AF_INET6, EVERYWHERE6)] if Path("/proc/sys/net/ipv6").exists() else []
    return [(AF_INET, EVERYWHERE4), *six]


def _lead(terminal: Namespace, link: str, window_packets: int, mark: int) -> None:
    """Connections of the terminal's end begin with a large window; nobody else's."""
    for family, everywhere in _families():
        wires.lead_marked(terminal, mark, TABLE, family=family)
        wires.add_route(terminal, everywhere, by=link, table=TABLE, window_packets=window_packets)


def _deliver(gateway: Namespace) -> None:
    """What the gateway's end takes is the router's own, whatever its address."""
    for family, everywhere in _families():
        wires.lead_marked(gateway, DELIVERY_MARK, TABLE, family=family)
        wires.add_local_route(gateway, everywhere, table=TABLE)
