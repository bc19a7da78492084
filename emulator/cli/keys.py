"""`bentpipe keys`: CURVE keys for endpoints that other machines can reach, and who may use them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from emulator.ports.curve import ROLES, SERVER, allow, make_pair


@click.command()
@click.option(
    "--role",
    "roles",
    multiple=True,
    type=click.Choice(ROLES),
    help="Allow NAME to connect as this; may be repeated.",
)
@click.option(
    "--public",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="NAME has keys already: its public one, to put on the allow-lists.",
)
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path), metavar="DIRECTORY")
@click.argument("name", required=False, metavar="[NAME]")
def keys(directory: Path, name: str | None, roles: Any, public: Path | None) -> None:
    """Make CURVE keys in DIRECTORY, for a bench that other machines may reach by tcp://.

    Without NAME: the bench's own pair, server.key and server.key_secret. With NAME: a client's pair, which may connect
    in the roles given: packets (to carry or inject them), control (all commands), observe (state and telemetry). Take
    NAME.key_secret and server.key to the client's machine, and nothing else. To shut a client out, remove its file
    under DIRECTORY/allow. Prints the public key's file.
    """
    if name is None:
        if roles or public:
            raise click.UsageError("--role and --public need a NAME")
        click.echo(make_pair(directory, SERVER))
        return
    if name == SERVER:
        raise click.UsageError("NAME: 'server' is the bench itself")
    if not roles:
        raise click.UsageError("NAME needs a --role: packets, control or observe")
    click.echo(public or make_pair(directory, name))
    allow(directory, name, roles, public)
