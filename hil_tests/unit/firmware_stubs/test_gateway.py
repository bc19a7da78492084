"""The mailbox: complete files only, in order, nothing lost and nothing twice."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from emulator.errors import EndpointError
from firmware_stubs.gateway import MOST_KEPT, MessageGateway


@pytest.fixture(params=["memory", "directory"])
def gateway(request: pytest.FixtureRequest, tmp_path: Path) -> MessageGateway:
    return MessageGateway(tmp_path / "mail" if request.param == "directory" else None)


def test_messages_for_the_terminal_come_once_and_in_order(gateway: MessageGateway) -> None:
    for number in range(5):
        gateway.send(f"{number}.sbd", bytes([number]))
    assert gateway.waiting() == 5
    assert [gateway.take(340) for _ in range(6)] == [*((f"{n}.sbd", bytes([n])) for n in range(5)), None]
    assert gateway.waiting() == 0


def test_messages_from_the_terminal_stay_and_none_is_overwritten(gateway: MessageGateway) -> None:
    gateway.deliver("a.sbd", b"1")
    gateway.deliver("a.sbd", b"2")
    assert [message for _, message in gateway.delivered()] == [b"1", b"2"]


def test_what_is_too_long_is_put_aside_and_stops_nobody(gateway: MessageGateway) -> None:
    gateway.send("1", bytes(341))
    gateway.send("2", bytes(340))
    assert gateway.take(340) == ("2", bytes(340))
    assert gateway.take(340) is None


def test_nothing_grows_in_memory() -> None:
    gateway = MessageGateway()
    for number in range(10 * MOST_KEPT):
        gateway.deliver(str(number), b"x")
        gateway.send(str(number), b"x")
    assert len(gateway.delivered()) == gateway.waiting() == MOST_KEPT


def test_a_directory_holds_whole_files_under_names_that_can_be_seen(tmp_path: Path) -> None:
    gateway = MessageGateway(tmp_path)
    (tmp_path / "mt" / ".half").write_bytes(b"not yet")
    (tmp_path / "mt" / "folder").mkdir()
    assert gateway.waiting() == 0
    assert gateway.take(340) is None
    gateway.deliver("one.sbd", b"hello")
    gateway.deliver("one.sbd", b"again")
    assert {path.name: path.read_bytes() for path in (tmp_path / "mo").iterdir()} == {
        "one.sbd": b"hello",
        "one_1.sbd": b"again",
    }


def test_of_several_who_take_each_message_goes_to_one(tmp_path: Path) -> None:
    gateways = [MessageGateway(tmp_path) for _ in range(4)]
    for number in range(100):
        gateways[0].send(f"{number:03d}", str(number).encode())
    taken: list[str] = []

    def take_all(gateway: MessageGateway) -> None:
        while (found := gateway.take(340)) is not None:
            taken.append(found[0])

    threads = [threading.Thread(target=take_all, args=(gateway,)) for gateway in gateways]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == [f"{number:03d}" for number in range(100)]


def test_a_mailbox_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(EndpointError, match="cannot make the mailbox"):
        MessageGateway(tmp_path / "file")


def test_the_oldest_message_from_the_terminal_stays_until_it_is_removed(gateway: MessageGateway) -> None:
    assert gateway.oldest() is None
    for number in (2, 1, 3):
        gateway.deliver(f"{number}.sbd", bytes([number]))
    assert gateway.oldest() == gateway.oldest() == ("2.sbd", b"\x02")
    assert gateway.remove("1.sbd")
    assert not gateway.remove("1.sbd")
    assert gateway.remove("2.sbd")
    assert gateway.oldest() == ("3.sbd", b"\x03")
