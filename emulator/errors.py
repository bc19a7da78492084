"""Everything that Bentpipe refuses, with the exit status that a shell sees.

    BentpipeError                    70   a defect of ours, if raised as itself
    ├── ScenarioError (ValueError)   65   a scenario file, a key or a value
    ├── ElementsError (ValueError)   66   orbital elements: corrupt, truncated, too far from their epoch
    ├── CoverageError (ValueError)   67   no satellite ever serves the terminal
    ├── ExpressionError (ValueError)  68   a packet to inject that cannot be built from its expression
    ├── BenchNotFoundError (LookupError)   69   no running bench to talk to, or more than one
    ├── EndpointError (OSError)      71   a serial line, socket or file that cannot be opened
    ├── InterfaceError (OSError)     73   a network interface: busy name, exhausted addresses
    ├── TraceError (ValueError)   74   a measured trace: a hole, a delay below 0, units mixed, time that goes back
    ├── EmulationError (RuntimeError)   75   the running emulation failed or its peer went away
    ├── PrivilegeError (PermissionError)   77   something that this user or this kernel may not do
    ├── ToolMissingError (LookupError)   78   a program or Python package that is not installed
    ├── CommandNotExecutableError (PermissionError)   126
    └── CommandNotFoundError (FileNotFoundError)   127

2 is a wrong command line; 130 and 143 are Ctrl-C and SIGTERM. The numbers from 64 to 78 follow BSD's sysexits.h where
it has one that fits. Each class also inherits the built-in exception that a caller would expect to catch.
"""

from __future__ import annotations

from typing import ClassVar


class BentpipeError(Exception):
    """Base of the tree. `str(error)` is one line that names the thing, or one line per problem."""

    exit_status: ClassVar[int] = 70


class ScenarioError(BentpipeError, ValueError):
    """A scenario that cannot be used. `problems` holds a line per fault: `file: key: expected …, got …`."""

    exit_status = 65

    def __init__(self, problems: list[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(problems))


class ElementsError(BentpipeError, ValueError):
    """Orbital elements that cannot be used; the message names file and line."""

    exit_status = 66


class CoverageError(BentpipeError, ValueError):
    """No satellite of the constellation ever serves the terminal."""

    exit_status = 67


class ExpressionError(BentpipeError, ValueError):
    """A packet to inject that cannot be built; the message quotes the expression."""

    exit_status = 68


class BenchNotFoundError(BentpipeError, LookupError):
    """No running bench answers, or several do and none was named."""

    exit_status = 69


class EndpointError(BentpipeError, OSError):
    """A serial line, socket or file that cannot be opened."""

    exit_status = 71


class InterfaceError(BentpipeError, OSError):
    """A network interface that cannot be had: its name is busy, its addresses are taken."""

    exit_status = 73


class TraceError(BentpipeError, ValueError):
    """A measured trace that cannot be used; the message names file and line."""

    exit_status = 74


class EmulationError(BentpipeError, RuntimeError):
    """The running emulation failed, or a process that it depends on went away."""

    exit_status = 75


class PrivilegeError(BentpipeError, PermissionError):
    """Something that this user, or this kernel, may not do."""

    exit_status = 77


class ToolMissingError(BentpipeError, LookupError):
    """A program or a Python package that is not installed; the message says how to get it."""

    exit_status = 78


class CommandNotExecutableError(BentpipeError, PermissionError):
    """The command to run in the bench exists and cannot be executed."""

    exit_status = 126


class CommandNotFoundError(BentpipeError, FileNotFoundError):
    """The command to run in the bench does not exist."""

    exit_status = 127
