"""nftables in a namespace, by the program `nft`: pyroute2 does not speak it.

What nft made goes with the namespace; nothing has to be taken down.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess

from emulator.errors import InterfaceError, ToolMissingError
from emulator.ports.namespace import Namespace

TIME_LIMIT_S = 10
INSTALL = "apt-get install nftables"


def find_nft() -> str:
    """Where `nft` is. Raises ToolMissingError."""
    found = shutil.which("nft", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")
    if found is None:
        raise ToolMissingError(f"nft is not installed, and address translation needs it: {INSTALL}")
    return found


def apply_rules(namespace: Namespace, text: str) -> None:
    """Puts a ruleset in force, all of it or nothing. Raises ToolMissingError, or InterfaceError if it is refused."""
    _run(namespace, ["-f", "-"], text)


def read_counters(namespace: Namespace) -> dict[str, int]:
    """Packets of each named counter in the namespace. Raises as `apply_rules`."""
    listed = json.loads(_run(namespace, ["-j", "list", "counters"], ""))["nftables"]
    return {item["counter"]["name"]: int(item["counter"]["packets"]) for item in listed if "counter" in item}


def _run(namespace: Namespace, arguments: list[str], text: str) -> str:
    command = [find_nft(), *arguments]
    done = namespace.run(
        lambda: subprocess.run(command, input=text, text=True, capture_output=True, check=False, timeout=TIME_LIMIT_S)
    )
    if done.returncode:
        said = next((line for line in done.stderr.splitlines() if line), "no reason given")
        raise InterfaceError(f"nft {' '.join(arguments)}: {said}")
    return done.stdout
