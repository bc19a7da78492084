"""`bentpipe attach` and `detach`: other programs' networks on either side of a running bench."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from emulator.cli.options import json_option
from emulator.errors import InterfaceError, ToolMissingError

ENGINES = ("docker", "podman")
NAMED_NAMESPACES = "/run/netns"  # of iproute2
ENGINE_PATIENCE_S = 20

bench_option = click.option("--bench", "bench_pid", type=int, metavar="PID", help="Which bench, where several run.")


@click.command()
@click.option("--pid", type=int, help="The network namespace that this process is in.")
@click.option("--netns", metavar="NAME", help="A named network namespace, as of `ip netns`.")
@click.option("--container", metavar="NAME", help="A running container of docker or podman.")
@click.option("--bridge", metavar="NAME", help="A bridge, and all that hangs on it.")
@click.option("--nic", metavar="NAME", help="A network card, or a VM's tap: what is at its other end.")
@click.option("--vlan", type=click.IntRange(1, 4094), default=None, help="Which VLAN of the network card.")
@click.option("--at", type=click.Choice(["terminal", "datacenter"]), default="terminal", show_default=True,
              help="On which side.")  # fmt: skip
@click.option("--network", default="", help="IPv4 network of the new wire.  [default: a free /24]")
@click.option("--interface", default="", metavar="NAME", help="The wire's name in a namespace.  [default: bp0, bp1, …]")
@click.option("--default-route", is_flag=True, help="A namespace sends all that it has no route for through the bench.")
@bench_option
@click.option("--list", "listing", is_flag=True, help="Say what is attached, and attach nothing.")
@json_option
def attach(
    vlan: int | None,
    at: str,
    network: str,
    interface: str,
    default_route: bool,
    bench_pid: int | None,
    listing: bool,
    as_json: bool,
    **targets: Any,
) -> None:
    """Put a namespace, a bridge or a network card on one side of a running bench.

    It keeps what it has, and gets one more interface, with an address and with routes to the bench; members of a bridge
    and hosts behind a card set their own, the gateway being the one that is told. `bentpipe detach`, or the end of the
    bench, takes all of it off again.
    """
    from emulator.control.client import ControlClient

    chosen = {key: value for key, value in targets.items() if value is not None}
    if len(chosen) != (0 if listing else 1):
        wanted = ", ".join(f"--{key}" for key in targets)
        raise click.UsageError(f"expected one of {wanted}, or --list")
    if vlan is not None and "nic" not in chosen:
        raise click.UsageError("--vlan is of --nic")
    with ControlClient.find(bench_pid) as client:
        if listing:
            _tell(client.request("attachments"), as_json)
            return
        (kind, value), *_ = chosen.items()
        more: dict[str, Any] = {"network": network, "interface": interface, "default_route": default_route}
        what = target(kind, value)
        if vlan is not None:
            what["target"] += f" VLAN {vlan}"
            more["vlan"] = vlan
        _tell([client.request("attach", at=at, **what, **more)], as_json)


@click.command()
@click.argument("name")
@bench_option
@json_option
def detach(name: str, bench_pid: int | None, as_json: bool) -> None:
    """Take off what `bentpipe attach` has put on; NAME is the wire's name or the target, as `attach --list` shows."""
    from emulator.control.client import ControlClient

    with ControlClient.find(bench_pid) as client:
        _tell([client.request("detach", name=name)], as_json)


def target(kind: str, value: str | int) -> dict[str, str]:
    """What to ask the bench for. Raises InterfaceError or ToolMissingError for what does not exist."""
    ours = f"/proc/{os.getpid()}/ns/net"
    match kind:
        case "pid":
            return {"kind": "namespace", "where": f"/proc/{value}/ns/net", "target": f"process {value}"}
        case "netns":
            return {"kind": "namespace", "where": f"{NAMED_NAMESPACES}/{value}", "target": f"namespace {value}"}
        case "container":
            where = f"/proc/{container_pid(str(value))}/ns/net"
            return {"kind": "namespace", "where": where, "target": f"container {value}"}
        case _:
            return {"kind": kind, "where": ours, "target": f"{kind} {value}", "device": str(value)}


def container_pid(name: str) -> int:
    """The first process of a running container. Raises ToolMissingError or InterfaceError."""
    engines = [found for engine in ENGINES if (found := shutil.which(engine))]
    if not engines:
        missing = f"neither {' nor '.join(ENGINES)} is installed"
        raise ToolMissingError(f"container {name}: {missing}; --pid takes any process, a container's too")
    said = ""
    for engine in engines:
        command = [engine, "inspect", "--format", "{{.State.Pid}}", name]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=ENGINE_PATIENCE_S)
        except (OSError, subprocess.TimeoutExpired) as error:
            said = f"{Path(engine).name}: {error}"
            continue
        if done.returncode == 0 and (pid := done.stdout.strip()).isdigit() and int(pid):
            return int(pid)
        said = next(iter(done.stderr.splitlines()), "it does not run")
    raise InterfaceError(f"container {name}: expected a running container: {said}")


def _tell(items: list[Mapping[str, Any]], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(items, indent=1))
        return
    if not items:
        click.echo("bentpipe: nothing is attached to this bench", err=True)
    for item in items:
        address = f"address {item['address']}, " if item["address"] else ""
        gone = "" if item["alive"] else ", gone"
        click.echo(
            f"{item['name']}: {item['target']} at the {item['at']}'s side, {item['network']} on {item['interface']}, "
            f"{address}gateway {item['gateway']}{gone}"
        )
