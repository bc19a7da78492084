"""OpenAMIP over TCP, each of our roles before a peer that was written from the specification's messages.

No modem and no antenna that speaks it can be installed: what these peers misunderstand, we may misunderstand, too.
"""

from __future__ import annotations

import contextlib

import pytest

from emulator.terminal import Antenna, Mount, Terminal
from emulator.terminal.pointing import Report
from emulator.units import NS_PER_S
from firmware_stubs.registry import Hardware, controller_line
from firmware_stubs.transport import SerialStub
from hil_tests.clients.openamip_peers import AntennaUnit, Modem

CRETE = Terminal(35.3, 25.1, 100.0)


def test_a_modem_is_led_to_its_satellite_to_another_one_and_is_not_let_transmit_at_one_that_has_set() -> None:
    antenna = Antenna(Mount(azimuth_rate_deg_s=1000, elevation_rate_deg_s=1000))
    with SerialStub("openamip", CRETE.state, "tcp:127.0.0.1:0", hardware=Hardware(antenna=antenna)) as stub:
        host, port = stub.address.removeprefix("tcp:").rsplit(":", 1)
        with contextlib.closing(Modem(host, int(port))) as modem:
            modem.begin(10.0)
            modem.hear_of("s", "1", "1")
            where = modem.hear_of("w", "1")
            assert [float(where[2]), float(where[3])] == [35.3, 25.1]
            assert int(where[4]) > 1_700_000_000
            modem.say("L 1 1", "Z 5", "X", "S", "S east")  # locked; and what no antenna knows
            modem.say("S -150.0 35.0 0.0")  # below the horizon
            modem.hear_of("s", "1", "0")
            modem.say("S 42.0 35.0 0.0")
            modem.hear_of("s", "1", "1")
        with contextlib.closing(Modem(host, int(port))) as again:  # the antenna is where the one before has left it
            again.say("A 1")
            assert again.hear_of("s") == ["s", "1", "1"]


@pytest.mark.parametrize("more", ["1", "1 0 1"])
def test_an_antenna_is_told_the_satellite_and_the_lock_and_believed(more: str) -> None:
    reports: list[Report] = []
    with AntennaUnit() as antenna:
        line = controller_line(
            "openamip",
            antenna.url,
            None,
            poll_ns=NS_PER_S // 50,
            silence_ns=60 * NS_PER_S,
            on_report=lambda report, _: reports.append(report),
            on_tick=lambda: None,
            utc_ns=lambda: 0,
            satellite_deg=10.0,
        )
        with line:
            antenna.until(lambda heard: heard[:1] == [["S", "10.000", "90.000", "0.000"]])
            antenna.until(lambda heard: ["W", "60"] in heard)
            line.say(line.driver.beacon(True))
            antenna.until(lambda heard: ["L", "1", "1"] in heard)
            antenna.until_asked(3)
            before = list(reports)
            antenna.status = ("1", more)
            antenna.until_asked(3)
        assert before
        assert not any(report.may_transmit or report.on_target for report in before)
        assert reports[-1].may_transmit
        assert reports[-1].on_target
        assert not line.oddities
