"""Where stubs are found: links that stay, links of the dead, links of the living, devices."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import serial

from emulator.errors import EndpointError
from firmware_stubs.lines import PtyLine, SerialDevice, open_line, remove_stale_links


@pytest.fixture
def dead_link(tmp_path: Path) -> Path:
    """A link whose process was killed, so that it could not clean up."""
    return leave_behind(tmp_path / "gnss")


def leave_behind(link: Path) -> Path:
    code = (
        f"import os, signal; from firmware_stubs.lines import PtyLine; "
        f"line = PtyLine(__import__('pathlib').Path({str(link)!r}), 9600); os.kill(os.getpid(), signal.SIGKILL)"
    )
    child = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[3], check=False)
    assert child.returncode == -signal.SIGKILL
    assert link.is_symlink()
    return link


@pytest.fixture
def device() -> Iterator[tuple[int, str]]:
    """A terminal device that somebody else made: its master and its name."""
    master, slave = os.openpty()
    yield master, os.ttyname(slave)
    os.close(slave)
    os.close(master)


def test_a_link_points_at_a_raw_pty_and_goes_with_its_line(tmp_path: Path) -> None:
    line = open_line(str(tmp_path / "gnss"), name="nmea", baud=9600)
    assert str((tmp_path / "gnss").readlink()) == line.device
    with serial.Serial(str(line.path), 9600, timeout=30) as client:
        os.write(line.fd, b"\x00\n\xff")
        assert client.read(3) == b"\x00\n\xff"
        client.write(b"\r\x03\x11")
        client.flush()
        assert os.read(line.fd, 10) == b"\r\x03\x11"
    line.close()
    line.close()
    assert list(tmp_path.iterdir()) == []


def test_names_are_chosen_side_by_side(tmp_path: Path) -> None:
    first, second = (open_line("pty", name="nmea", baud=9600, directory=tmp_path) for _ in range(2))
    assert [first.path.name, second.path.name] == ["nmea0", "nmea1"]
    first.close()
    third = open_line("pty", name="nmea", baud=9600, directory=tmp_path)
    assert third.path.name == "nmea0"
    second.close()
    third.close()
    assert list(tmp_path.iterdir()) == []


def test_a_link_that_is_served_is_refused_and_left_alone(tmp_path: Path) -> None:
    line = PtyLine(tmp_path / "gnss", 9600)
    with pytest.raises(EndpointError, match=rf"gnss: is served by process {os.getpid()} already"):
        open_line(str(tmp_path / "gnss"), name="nmea", baud=9600)
    assert str((tmp_path / "gnss").readlink()) == line.device
    assert remove_stale_links(tmp_path) == []
    line.close()


def test_a_link_of_a_dead_process_is_replaced(dead_link: Path) -> None:
    line = open_line(str(dead_link), name="nmea", baud=9600)
    assert str(dead_link.readlink()) == line.device
    line.close()
    assert list(dead_link.parent.iterdir()) == []


def test_a_link_of_the_dead_is_replaced_although_its_pty_lives_again(dead_link: Path, device: tuple[int, str]) -> None:
    dead_link.unlink()
    dead_link.symlink_to(device[1])
    line = open_line(str(dead_link), name="nmea", baud=9600)
    assert line.device != device[1]
    line.close()


def test_links_of_the_dead_can_be_removed(dead_link: Path) -> None:
    other = PtyLine(dead_link.with_name("other"), 9600)
    assert remove_stale_links(dead_link.parent) == [dead_link]
    assert not dead_link.is_symlink()
    assert other.path.is_symlink()
    other.close()
    assert list(dead_link.parent.iterdir()) == []


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_what_is_no_link_is_refused_and_left_alone(tmp_path: Path, kind: str) -> None:
    place = tmp_path / "gnss"
    if kind == "file":
        place.write_text("mine")
    else:
        place.mkdir()
    with pytest.raises(EndpointError, match="gnss: expected a serial port or a free name"):
        open_line(str(place), name="nmea", baud=9600)
    assert [path.name for path in tmp_path.iterdir()] == ["gnss"]
    assert kind == "directory" or place.read_text() == "mine"


@pytest.mark.parametrize("port", ["/nonexistent/gnss", "/dev/ttyNONE0", "/proc/gnss"])
def test_a_port_that_cannot_be_made_is_named(port: str) -> None:
    with pytest.raises(EndpointError, match=port):
        open_line(port, name="nmea", baud=9600)


def test_a_failure_leaves_no_descriptor_open(tmp_path: Path) -> None:
    (tmp_path / "gnss").write_text("")
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(EndpointError):
        PtyLine(tmp_path / "gnss", 9600)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_device_is_opened_by_pyserial_and_left_in_place(device: tuple[int, str], tmp_path: Path) -> None:
    by_name = tmp_path / "by-id"
    by_name.symlink_to(device[1])
    line = open_line(str(by_name), name="nmea", baud=4800)
    assert isinstance(line, SerialDevice)
    os.write(line.fd, b"out")
    assert os.read(device[0], 3) == b"out"
    line.close()
    assert by_name.is_symlink()


def test_a_device_is_held_for_one_process(device: tuple[int, str]) -> None:
    line = open_line(device[1], name="nmea", baud=4800)
    with pytest.raises(EndpointError, match=f"{device[1]}: cannot open the serial port at 4800 baud"):
        open_line(device[1], name="nmea", baud=4800)
    line.close()
