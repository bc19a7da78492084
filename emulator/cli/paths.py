"""`bentpipe paths`: the several ways of a running bench, and which of them new connections take."""

from __future__ import annotations

import json

import click

from emulator.cli.attach import bench_option
from emulator.cli.options import json_option


@click.command()
@click.option("--use", metavar="NAME", help="New connections take this path from now on.")
@bench_option
@json_option
def paths(use: str | None, bench_pid: int | None, as_json: bool) -> None:
    """List the paths of a running bench: addresses, satellite, delay, and which is in use; and the sides' daemons."""
    from emulator.control.client import ControlClient

    with ControlClient.find(bench_pid) as client:
        if use is not None:
            client.request("use_path", name=use)
        listed = client.request("paths")
        daemons = client.request("daemons")
    if as_json:
        click.echo(json.dumps(listed, indent=1))
        return
    if not listed:
        click.echo("bentpipe: this bench has one path, its link: `bentpipe ctl state` tells of it", err=True)
    for path in listed:
        mark = "*" if path["in_use"] else " "
        by = f", by {path['satellite']}" if path["satellite"] else ""
        state = path["failure"] or f"{path['delay_ms']:.1f} ms one way, gate {path['gate'].lower()}{by}"
        click.echo(f"{mark} {path['name']}: {path['terminal']} → {path['datacenter']}, {state}")
    for daemon in daemons:
        how = "runs" if daemon["alive"] else f"has ended ({daemon['ended']})"
        click.echo(f"  daemon {daemon['name']} at the {daemon['at']}'s side {how}")
