"""Compiles what the tests call, in one process: what several loops have in common is then typed once.

python -m hil_tests.warm_up
"""

from __future__ import annotations

from emulator.link.link import Link
from emulator.ports import end_part, relay
from emulator.ports.fabric import FabricRelay
from emulator.taps import capture
from emulator.timeline.model import Channel
from hil_tests.unit.link.cases import digest


def main() -> None:
    relay.warm_up()
    end_part.warm_up()
    links = [Link(Channel.constant(0, delay_ns=0), 1, seed=0, direction=number) for number in range(2)]
    FabricRelay(links[0], links[1], (-1, -1), endpoints=())._warm_up()
    capture.warm_up(links[0])
    digest(2)


if __name__ == "__main__":
    main()
