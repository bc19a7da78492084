"""`bentpipe access`: the operator's network of a running bench, and another point of presence."""

from __future__ import annotations

import json

import click

from emulator.cli.attach import bench_option
from emulator.cli.options import json_option


@click.command()
@click.option("--new-address", is_flag=True, help="Another point of presence now: the public address changes.")
@bench_option
@json_option
def access(new_address: bool, bench_pid: int | None, as_json: bool) -> None:
    """Show the access network of a running bench: public address, mappings, what was refused, the proxy's counters."""
    from emulator.control.client import ControlClient

    with ControlClient.find(bench_pid) as client:
        state = client.request("new_address" if new_address else "access")
    if as_json:
        click.echo(json.dumps(state, indent=1))
        return
    click.echo(f"public address {state['public_ipv4']}, point of presence {state['point_of_presence']}")
    if state["prefix_ipv6"]:
        click.echo(f"delegated prefix {state['prefix_ipv6']}")
    click.echo(f"mappings {state['mappings']}")
    for name, packets in state["refused"].items():
        click.echo(f"{name.replace('_', ' ')} {packets}")
    for name, counts in state["pep"].items():
        numbers = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in counts.items())
        click.echo(f"proxy at the {name}: {numbers}")
