"""Starts the modules of this very package as processes of their own: `python -P child.py MODULE [ARGUMENT …]`.

`python -m` puts the working directory before everything else on the path: a folder `emulator` there, anybody's, would
run in our place, as root at that. So the child finds the package by this file's own place, in a checkout and when it is
installed, and `-P` keeps the working directory and this file's folder off the path.
"""

import runpy
import sys
from pathlib import Path

PACKAGE_PARENT = str(Path(__file__).resolve().parent.parent)


def child_command(module: str, *arguments: object) -> list[str]:
    """The command line that runs `module` of this package as a program."""
    return [sys.executable, "-P", __file__, module, *(str(argument) for argument in arguments)]


def main() -> None:
    """The child: becomes the module."""
    if PACKAGE_PARENT not in sys.path:
        sys.path.insert(0, PACKAGE_PARENT)
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
