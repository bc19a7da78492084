"""The vendor's compiled library for the RockBLOCK 9704, unmodified, takes the JSPR stub for the modem.

The stub is a process of its own: the library holds Python's lock while it waits for the modem. It opens ports of this
machine only; one at a device server, RFC 2217 or TCP, is put behind one by the command, a third process.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from rockblock9704 import RockBlock9704

from firmware_stubs.gateway import MessageGateway

ROOT = Path(__file__).parents[2]
PATIENCE_S = 60


@contextmanager
def command(*arguments: str) -> Iterator[str]:
    """`bentpipe stub jspr` and where it is found."""
    process = subprocess.Popen(
        [sys.executable, "-m", "emulator.cli.main", "stub", "jspr", *arguments],
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        yield process.stdout.readline().rstrip("\n")
    finally:
        process.terminate()
        process.communicate(timeout=PATIENCE_S)


@contextmanager
def modem(directory: Path, *options: str, transport: str = "pty") -> Iterator[RockBlock9704]:
    here = str(directory / "modem")
    port = here if transport == "pty" else f"{transport}:127.0.0.1:0"
    with ExitStack() as running:
        options = ("--mailbox", str(directory / "mail"), "--session-s", "0.1", *options)
        path = running.enter_context(command("--port", port, *options))
        if transport != "pty":
            url = path.replace("tcp:", "socket://").replace("rfc2217:", "rfc2217://")
            path = running.enter_context(command("--port", here, "--hardware", url))
        client = RockBlock9704()
        assert client.begin(path)
        running.callback(client.end)
        yield client


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A directory with a short name: the library refuses a port with a long one without saying why."""
    with tempfile.TemporaryDirectory(prefix="rb", dir="/tmp") as directory:
        yield Path(directory)


@pytest.fixture
def mailbox(tmp_path: Path) -> MessageGateway:
    return MessageGateway(tmp_path / "mail")


@pytest.mark.parametrize(("size", "transport"), [(1, "pty"), (1445, "rfc2217"), (1445, "tcp"), (20_000, "pty")])
def test_a_message_goes_out_whole(tmp_path: Path, mailbox: MessageGateway, size: int, transport: str) -> None:
    message = bytes(1 + number % 255 for number in range(size))
    with modem(tmp_path, transport=transport) as client:
        assert client.send_message(message)
        assert client.send_message(message, RockBlock9704.RED_TOPIC)
    sent = mailbox.delivered()
    assert [content for _, content in sent] == [message, message]
    assert [name.rpartition(".")[2] for name, _ in sent] == ["topic244", "topic315"]


@pytest.mark.parametrize(("size", "transport"), [(1, "tcp"), (1082, "pty"), (5000, "rfc2217")])
def test_a_message_comes_in_whole(tmp_path: Path, mailbox: MessageGateway, size: int, transport: str) -> None:
    message = bytes(1 + number % 255 for number in range(size))
    mailbox.send("1.topic315", message)
    with modem(tmp_path, transport=transport) as client:
        deadline_s, received = time.monotonic() + PATIENCE_S, None
        while received is None and time.monotonic() < deadline_s:  # it never waits for a message
            received = client.receive_message()
        assert received == message
    assert mailbox.waiting() == 0


def test_it_begins_again_after_its_end_and_hears_the_signal(tmp_path: Path) -> None:
    with modem(tmp_path, "--bars", "3") as client:
        assert client.get_signal() == 3
        assert client.end()
        assert client.begin(str(tmp_path / "modem"))
        assert client.get_signal() == 3


def test_without_a_signal_no_message_goes_out(tmp_path: Path, mailbox: MessageGateway) -> None:
    with modem(tmp_path, "--bars", "0") as client:
        assert client.get_signal() == 0
        assert not client.send_message(b"hello", timeout=1)
    assert mailbox.delivered() == []
