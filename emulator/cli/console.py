"""The console of every command: what is printed there means itself.

rich takes `[red]` for a colour, `[/x]` for the end of one and `:star:` for a picture. Names of tests, files, stations
and scenarios may hold any of them, and no place that prints one has to think of it: colours are styles of a Text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def console_for(*, stderr: bool = False, width_elsewhere: int | None = None, least_width: int = 0) -> Console:
    """A console on stdout or stderr, without markup, emoji codes and highlighting.

    width_elsewhere: columns where it is no terminal; least_width: columns that it has at least, on a terminal too.
    """
    from rich.console import Console

    console = Console(stderr=stderr, markup=False, emoji=False, highlight=False)
    if width_elsewhere is not None and not console.is_terminal:
        console.width = width_elsewhere
    console.width = max(console.width, least_width)
    return console
