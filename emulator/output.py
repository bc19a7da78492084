"""Files that appear whole or not at all; - is stdout wherever a file is written."""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from emulator.errors import EndpointError

STDOUT = Path("-")


@contextmanager
def output_file(output: Path | None) -> Iterator[BinaryIO]:
    """A binary file that takes the name `output` when the block ends well; stdout for None and for `-`.

    Pipes and devices are written as they are. Raises EndpointError.
    """
    if output is None or output == STDOUT:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    whole = output.exists() and not output.is_file()
    written = output if whole else output.with_name(f".{output.name}.{os.getpid()}.part")
    try:
        file = written.open("wb")
    except OSError as error:
        raise _refusal(output, error) from error
    try:
        with file:
            yield file
        if not whole:
            written.replace(output)
    except BaseException as error:
        if not whole:
            with suppress(OSError):
                written.unlink()
        if isinstance(error, OSError) and not isinstance(error, EndpointError) and error.errno is not None:
            raise _refusal(output, error) from error
        raise


def require_place(output: Path) -> None:
    """Raises EndpointError, as `output_file` would, if there is no directory in which the file could be made."""
    folder = output.parent
    try:
        if output.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not stat.S_ISDIR(folder.stat().st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        if not output.exists() and not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise _refusal(output, error) from error


def _refusal(output: Path, error: OSError) -> EndpointError:
    return EndpointError(f"{output}: cannot be written: {error.strerror or error}")
