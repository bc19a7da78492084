"""What all modems with AT commands share: echo, result codes, several commands in a line, data after a command.

How to read it: a modem is an `AtModem` that answers single commands in `command`; it gives the lines of the answer,
`Refused`, `Data` to be collected first, or `Later` for what takes its time. Sans-I/O, time is an argument.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from emulator.units import NS_PER_S
from firmware_stubs.text import Answers

MAX_LINE = 4096
OK, ERROR = "OK", "ERROR"
NUMERIC = {OK: "0", ERROR: "4"}  # ITU-T V.250, 6.3.1: result codes as numbers

_SPLIT = re.compile(
    r"""S\d+(?:=\d+|\?)?|[&*\\]?[A-Z]\d*|[+\-^%#](?:"[^"]*"|[^;"])*;?|;|.""", re.ASCII | re.IGNORECASE | re.DOTALL
)


@dataclass(frozen=True, slots=True)
class Refused:
    """The command fails: what is said instead of OK."""

    said: str = ERROR


@dataclass(frozen=True, slots=True)
class Raw:
    """Bytes that are said as they are, with nothing before them; then OK."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Data:
    """The modem says `prompt` and collects `size` bytes, or less up to `end`; `then` answers, with None in time."""

    prompt: bytes
    size: int
    then: Callable[[bytes | None, int], Answer]
    end: int | None = None
    within_ns: int = 60 * NS_PER_S


@dataclass(frozen=True, slots=True)
class Later:
    """The modem is busy for `after_ns`, and then answers."""

    after_ns: int
    then: Callable[[int], Answer]


Answer = list[str] | Refused | Raw | Data | Later


class AtModem:
    """The front of a modem. Subclasses answer in `command`, and say what nobody asked for by `announce`."""

    def __init__(self) -> None:
        self.echo, self.verbose, self.quiet = True, True, False
        self._line = bytearray()
        self._overlong = False
        self._rest: deque[str] = deque()  # commands of the line that wait for the one before
        self._doing: Data | Later | None = None
        self._since_ns = 0
        self._data = bytearray()
        self._answers = Answers()

    def command(self, command: str, now_ns: int) -> Answer:
        """Answers one command, as it was typed and without its AT."""
        raise NotImplementedError

    def background(self, now_ns: int) -> None:
        """What the modem does by itself, between commands."""

    def next_background_ns(self) -> int | None:
        """When it next does something by itself."""
        return None

    def announce(self, line: str) -> None:
        """Says an unsolicited line."""
        if not self.quiet:
            self._answers.add(b"\r\n" + line.encode("latin-1", "replace") + b"\r\n")

    def receive(self, data: bytes, now_ns: int) -> None:
        """Takes what the client wrote, in pieces of any size. Never raises over what is in it.

        What comes while the modem is busy is thrown away.
        """
        self._finish(now_ns)
        for byte in data:
            if isinstance(self._doing, Later):
                continue
            if isinstance(self._doing, Data):
                self._collect(self._doing, byte, now_ns)
            else:
                self._type(byte, now_ns)

    def poll(self, now_ns: int) -> bytes:
        """What the modem says up to `now_ns`."""
        self._finish(now_ns)
        if self._doing is None and not self._line:
            self.background(now_ns)
        return self._answers.take()

    def next_event_ns(self) -> int | None:
        """With an answer waiting: an instant that has passed."""
        if self._answers:
            return 0
        if self._doing is not None:
            return self._since_ns + self._limit_ns(self._doing)
        return None if self._line else self.next_background_ns()

    def _type(self, byte: int, now_ns: int) -> None:
        if self.echo:
            self._answers.add(bytes([byte]))
        if byte == 0x0D:
            line, overlong = self._line.decode("latin-1"), self._overlong
            self._line.clear()
            self._overlong = False
            begin = line.upper().find("AT")
            if overlong:
                self._result(ERROR)
            elif begin >= 0:
                self._rest.extend(_SPLIT.findall(line[begin + 2 :]))
                self._go_on(now_ns, None)
        elif byte == 0x08:
            del self._line[-1:]
        elif len(self._line) >= MAX_LINE:
            self._overlong = True
        elif byte not in b"\n\0":
            self._line.append(byte)

    def _collect(self, wanted: Data, byte: int, now_ns: int) -> None:
        if byte != wanted.end:
            self._data.append(byte)
        if byte == wanted.end or len(self._data) >= wanted.size:
            data = bytes(self._data)
            self._data.clear()
            self._doing = None
            self._go_on(now_ns, wanted.then(data, now_ns))

    def _finish(self, now_ns: int) -> None:
        """Ends what is due. A clock that was set back does not make it longer."""
        while (doing := self._doing) is not None:
            self._since_ns = min(self._since_ns, now_ns)
            if now_ns - self._since_ns < self._limit_ns(doing):
                return
            self._doing = None
            self._data.clear()
            self._go_on(now_ns, doing.then(None, now_ns) if isinstance(doing, Data) else doing.then(now_ns))

    def _limit_ns(self, doing: Data | Later) -> int:
        return doing.within_ns if isinstance(doing, Data) else doing.after_ns

    def _go_on(self, now_ns: int, answer: Answer | None) -> None:
        """Says an answer, then does the commands that are left of the line. One result code per line."""
        while True:
            match answer:
                case Data() | Later():
                    self._doing, self._since_ns = answer, now_ns
                    if isinstance(answer, Data):
                        self._answers.add(answer.prompt)
                    return
                case Refused(said):
                    self._rest.clear()
                    self._result(said)
                    return
                case Raw(data):
                    self._answers.add(data)
                case list():
                    self._answers.add(self._information(answer))
            while self._rest and self._rest[0].strip(" ;") == "":
                self._rest.popleft()
            if not self._rest:
                self._result(OK)
                return
            answer = self._basic(self._rest.popleft().strip(" ;"), now_ns)

    def _basic(self, command: str, now_ns: int) -> Answer:
        match command.upper():
            case "E" | "E0" | "E1":
                self.echo = command.endswith("1")
            case "V" | "V0" | "V1":
                self.verbose = command.endswith("1")
            case "Q" | "Q0" | "Q1":
                self.quiet = command.endswith("1")
            case "Z" | "Z0" | "&F" | "&F0":
                self.echo, self.verbose, self.quiet = True, True, False
                return self.reset(now_ns)
            case _:
                return self.command(command, now_ns)
        return []

    def reset(self, now_ns: int) -> Answer:
        """ATZ and AT&F, after the settings of the front."""
        return []

    def _information(self, lines: list[str]) -> bytes:
        before = "\r\n" if self.verbose else ""
        return "".join(f"{before}{line}\r\n" for line in lines).encode("latin-1", "replace")

    def _result(self, said: str) -> None:
        if not self.quiet:
            self._answers.add((f"\r\n{said}\r\n" if self.verbose else f"{NUMERIC.get(said, said)}\r").encode("ascii"))
