"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from emulator.errors import EndpointError


@contextmanager
def output_file(output: Path | None) -> Iterator[BinaryIO]:
    """A binary file that takes the name `output` when the block ends well; stdout for None.

    Pipes and devices are written as they are. Raises EndpointError.
    """
    if output is None:
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


def _refusal(output: Path, error: OSError) -> EndpointError:
    return EndpointError(f"{output}: cannot be written: {error.strerror or error}")
