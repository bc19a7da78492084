"""Whether a command could be started, before anything is."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from emulator.errors import CommandNotExecutableError, CommandNotFoundError


def check_command(command: Sequence[str]) -> None:
    """Raises CommandNotFoundError or CommandNotExecutableError if `command` could not be started."""
    if not command[0]:
        raise CommandNotFoundError("CMD: expected a command, its first word is empty")
    if shutil.which(command[0]) is not None:
        return
    if "/" in command[0] and Path(command[0]).exists():
        raise CommandNotExecutableError(f"{command[0]}: expected an executable file")
    raise CommandNotFoundError(f"{command[0]}: command not found")
