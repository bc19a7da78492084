"""Python processes with a build of the packet path of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[3]


def python(*arguments: str, package: Path = REPOSITORY, cwd: Path | None = None, **environment: str) -> str:
    """Runs Python with `emulator` from `package`; its standard output. Any failure, or warning, is an error.

    Of this process's environment it keeps what has nothing to do with Numba; `environment` is added.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("NUMBA_")}
    path = os.pathsep.join([str(package), str(REPOSITORY), *sys.path])
    finished = subprocess.run(
        [sys.executable, "-B", "-W", "error", *arguments],
        capture_output=True,
        text=True,
        cwd=cwd or package,
        check=False,
        env={**inherited, "PYTHONPATH": path, **environment},
    )
    assert finished.returncode == 0, finished.stderr[-4000:]
    return finished.stdout.strip()
