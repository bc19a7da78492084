"""`bentpipe enter`: a command at one side of a bench that runs already."""

from __future__ import annotations

import os
from pathlib import Path

import click


@click.command()
@click.argument("command", nargs=-1, metavar="[-- CMD...]")
@click.option("--bench", "pid", type=int, metavar="PID", help="Which bench, where several run.")
@click.option("--at", "side", type=click.Choice(["terminal", "datacenter"]), default="terminal", show_default=True,
              help="At which side.")  # fmt: skip
def enter(command: tuple[str, ...], pid: int | None, side: str) -> None:
    """Run CMD, or a shell, at one side of a running bench: `bentpipe run` in one window, this in another.

    $BENTPIPE_DATACENTER and $BENTPIPE_TERMINAL hold the IPv4 addresses, ...6 the IPv6 ones. The exit status is CMD's.
    """
    from emulator.bench.commands import check_command
    from emulator.bench.runtime import MARK, running_benches
    from emulator.control.client import choose, describe
    from emulator.ports.namespace import enter_namespaces

    words = list(command) or [os.environ.get("SHELL", "/bin/sh")]
    check_command(words)
    bench = describe(choose(running_benches(), pid))
    environment = {
        MARK: bench["token"],
        "BENTPIPE_TERMINAL": bench["terminal_ipv4"],
        "BENTPIPE_DATACENTER": bench["datacenter_ipv4"],
        "BENTPIPE_TERMINAL6": bench["terminal_ipv6"],
        "BENTPIPE_DATACENTER6": bench["datacenter_ipv6"],
        **bench["paths"],
    }
    if side not in bench["namespaces"]:
        where = "another part of the bench has it, or it is behind a network card"
        raise click.UsageError(f"--at {side}: this side of the bench is not in reach from here: {where}")
    enter_namespaces(bench["pid"], Path(bench["namespaces"][side]))
    os.execvpe(words[0], words, {**os.environ, **{name: value for name, value in environment.items() if value}})
