"""Gates and causes: what a link may do with a packet, and why it did."""

from __future__ import annotations

from enum import IntEnum


class Gate(IntEnum):
    """What the link does with a packet whose service would start now."""

    PASS = 0
    HOLD = 1  # packets wait in the queue, and leave in order when the gate opens
    DROP = 2  # packets are sent, take their time on the air, and are lost


class Cause(IntEnum):
    """Why a gate is not open, or why a packet was dropped. The order is that of the counters, and only grows."""

    NONE = 0
    QUEUE = 1  # the queue was full when the packet came
    LOSS = 2  # lost on the air: the loss rate of the Timeline or the overlay
    HANDOVER = 3  # the serving satellite changes
    OUTAGE = 4  # the link is down: Starlink's NO_DOWNLINK
    NO_SATELLITE = 5  # nothing above the mask, or no gateway in its view
    OBSTRUCTION = 6
    FADE = 7  # attenuation took the C/N below the most robust MODCOD
    COMMAND = 8  # an overlay: somebody asked for it
    MALFORMED = 9  # not a packet that IP could carry
    MEMORY = 10  # the delay line's memory was full
    EGRESS = 11  # the kernel refused the packet behind the link
    PORT_QUEUE = 12  # dropped by the kernel before the link could read it (TUN tx_dropped)
    TRANSPORT = 13  # lost between the processes of a bench (ZeroMQ high-water mark)
    AQM = 14  # dropped by the queue's discipline before it was full (CoDel, PIE, FQ-CoDel)
    TOO_LONG = 15  # longer than the interfaces of both sides take
    NO_PINGS = 16  # the link is up, and nothing comes back from beyond the gateway
    NO_SCHEDULE = 17  # the terminal has no satellite assigned
    BOOTING = 18  # the terminal restarts
    STAGE = 19  # a stage of the user's own said so
