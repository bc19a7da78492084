"""`bentpipe clean`: removes what killed benches have left behind."""

from __future__ import annotations

import json

import click

from emulator.cli.options import json_option


@click.command()
@json_option
def clean(as_json: bool) -> None:
    """Remove what killed benches have left behind.

    Namespaces, interfaces, sockets and runtime directories of benches whose process is gone. Benches that run are left
    alone. Every start of a bench does the same.
    """
    from emulator.bench.runtime import remove_leftovers, runtime_root
    from firmware_stubs.lines import remove_stale_links

    removed = remove_leftovers() + [f"serial line {path}" for path in remove_stale_links(runtime_root())]
    if as_json:
        click.echo(json.dumps({"removed": removed}))
        return
    for what in removed:
        click.echo(f"removed {what}")
    if not removed:
        click.echo("nothing to remove")
