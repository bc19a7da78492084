"""Compiles what the tests call, in one process: what several loops have in common is then typed once.

python -m hil_tests.warm_up
"""

from __future__ import annotations

from emulator.link.link import Link
from emulator.ports import end_part, relay
from emulator.ports.fabric import FabricRelay
from emulator.scenario import load_scenario
from emulator.taps import capture
from emulator.timeline.build import windows_for
from emulator.timeline.model import Channel
from emulator.units import NS_PER_S
from hil_tests.unit.link.cases import digest
from hil_tests.unit.timeline.virtual_pings import ping


def main() -> None:
    relay.warm_up()
    end_part.warm_up()
    links = [Link(Channel.constant(0, delay_ns=0), 1, seed=0, direction=number) for number in range(2)]
    FabricRelay(links[0], links[1], (-1, -1), endpoints=())._warm_up()
    capture.warm_up(links[0])
    digest(2)
    fixed = load_scenario("fixed")
    ping(fixed, windows_for(fixed, epoch_utc_ns=0), 0, 0.01, NS_PER_S)


if __name__ == "__main__":
    main()
