"""Both ends of OpenAMIP, played over TCP from the messages of the specification alone: nothing of ours is imported.

A message is a line: a letter, upper case from the modem, lower case from the antenna, and parameters behind spaces.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable

PATIENCE_S = 60
ARITY = {"S": 3, "H": 2, "P": 2, "B": 2, "T": 2, "A": 1, "W": 1, "L": 2, "K": 1, "F": 0, "s": 2, "w": 4}


class Modem:
    """A modem that connects to an antenna's controller, and tells it all that an antenna may want to know."""

    def __init__(self, host: str, port: int) -> None:
        self._connection = socket.create_connection((host, port), PATIENCE_S)
        self._file = self._connection.makefile("rb")

    def say(self, *messages: str) -> None:
        self._connection.sendall("".join(f"{message}\n" for message in messages).encode("ascii"))

    def begin(self, satellite_deg: float) -> None:
        """As modems begin: keep-alive, satellite, where its carrier is found, polarisation, oscillators, and so on."""
        self.say("A 1", f"S {satellite_deg} 35.0 0.0", "H 1250.000 20.000", "P H V", "B 10600.0 13050.0")
        self.say("T 1400.0 2.5", "K 30.0", "L 0 0", "W 1", "F")

    def hear(self) -> list[str]:
        """The next message: its letter and its parameters."""
        line = self._file.readline()
        assert line.endswith(b"\n")
        letter, *parameters = line.decode("ascii").rstrip("\n").split(" ")
        assert letter.islower()
        assert len(parameters) >= ARITY[letter]
        return [letter, *parameters]

    def hear_of(self, *wanted: str) -> list[str]:
        """The next message that begins so."""
        while (message := self.hear())[: len(wanted)] != list(wanted):
            pass
        return message

    def close(self) -> None:
        self._file.close()
        self._connection.close()


class AntennaUnit:
    """An antenna's controller that waits for a modem; `status` is what it tells it (functional, may transmit)."""

    def __init__(self) -> None:
        self.status = ("1", "0")
        self.heard: list[list[str]] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"socket://127.0.0.1:{self._listener.getsockname()[1]}"
        self._changed = threading.Condition()
        self._connections: list[socket.socket] = []
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def __enter__(self) -> AntennaUnit:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._thread.join(PATIENCE_S)

    def until(self, done: Callable[[list[list[str]]], bool]) -> None:
        """Waits until what the modem has said is `done`."""
        with self._changed:
            assert self._changed.wait_for(lambda: done(self.heard), PATIENCE_S)

    def until_asked(self, times: int) -> None:
        """Waits until the modem has said so much more."""
        so_far = len(self.heard)
        self.until(lambda heard: len(heard) >= so_far + times)

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self._connections.append(connection)
                with connection, connection.makefile("rb") as file:
                    for line in file:
                        self._obey(connection, line)

    def _obey(self, connection: socket.socket, line: bytes) -> None:
        letter, *parameters = line.decode("ascii").rstrip("\n").split(" ")
        assert letter.isupper()
        assert len(parameters) == ARITY[letter]
        if letter == "A":
            functional, may_transmit = self.status
            connection.sendall(f"s {functional} {may_transmit}\n".encode("ascii"))
        elif letter == "W":
            connection.sendall(b"w 1 35.30000 25.10000 1800000000\n")
        with self._changed:
            self.heard.append([letter, *parameters])
            self._changed.notify_all()
