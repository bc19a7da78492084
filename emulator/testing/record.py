"""The record of a run: all that a report is made from, as one JSON file beside it.

Times are nanoseconds of simulated UTC counted from `start_utc_ns`, so that a column stays short. −1 stands for a
packet that never arrived and for a state without a satellite.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from emulator.errors import EndpointError, ScenarioError
from emulator.output import output_file

FORMAT: Literal["bentpipe-run-1"] = "bentpipe-run-1"

Direction = Literal["uplink", "downlink"]
DIRECTIONS: tuple[Direction, ...] = ("uplink", "downlink")
CAUSE_WORDS = {
    "NONE": "no cause",
    "QUEUE": "queue full",
    "LOSS": "lost on the air",
    "HANDOVER": "handover",
    "OUTAGE": "outage of the link",
    "NO_SATELLITE": "no satellite",
    "OBSTRUCTION": "obstruction",
    "FADE": "fade below the last MODCOD",
    "COMMAND": "command",
    "MALFORMED": "malformed",
    "MEMORY": "delay line full",
    "EGRESS": "refused behind the link",
    "PORT_QUEUE": "kernel's device queue",
    "TRANSPORT": "between processes",
    "AQM": "queue discipline",
    "TOO_LONG": "longer than the MTU",
    "STAGE": "by a stage of your own",
}
"""What a person calls a cause of drops."""

Column = list[int]
Count = Annotated[int, Field(ge=0)]


class Part(BaseModel):
    """A table whose list columns all have one length."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="after")
    def columns_fit_together(self) -> Part:
        lengths = {
            name: len(value) for name, value in self if isinstance(value, list) and name not in self.vocabularies()
        }
        if len(set(lengths.values())) > 1:
            raise ValueError(f"expected columns of one length, got {lengths}")
        return self

    @classmethod
    def vocabularies(cls) -> set[str]:
        """Lists that are no columns."""
        return set()


class ChannelSeries(Part):
    """What one direction was told to do: `delay_ns` one way without queue and jitter, `gate` and `cause` by number."""

    delay_ns: Column = []
    rate_bps: Column = []
    loss: list[float] = []
    gate: Column = []
    cause: Column = []


class StateSeries(Part):
    """The link's state at regular instants. `satellite`, `gateway` index `satellites`, `gateways`."""

    at_ns: Column = []
    satellite: Column = []
    gateway: Column = []
    azimuth_deg: list[float] = []
    elevation_deg: list[float] = []
    slant_range_m: list[float] = []
    satellites: list[str] = []
    gateways: list[str] = []
    uplink: ChannelSeries = ChannelSeries()
    downlink: ChannelSeries = ChannelSeries()

    @classmethod
    def vocabularies(cls) -> set[str]:
        return {"satellites", "gateways"}


class HardwareSeries(Part):
    """What the terminal's hardware did at regular instants; empty without any.

    `dish` indexes `words`, −1 without a dish. off_deg: between beam and satellite, −1 where that is not known.
    loss_db: what that costs the downlink, blockage included. locked: 1 while the antenna has its satellite.
    """

    at_ns: Column = []
    dish: Column = []
    beam_azimuth_deg: list[float] = []
    beam_elevation_deg: list[float] = []
    off_deg: list[float] = []
    loss_db: list[float] = []
    locked: Column = []
    words: list[str] = []

    @classmethod
    def vocabularies(cls) -> set[str]:
        return {"words"}


class DirectionCounts(Part):
    """One direction's counters at each instant of the series; `dropped` by the name of the cause.

    Records of earlier versions do not tell what the link has `copied`: nothing.
    """

    offered_packets: Column = []
    copied_packets: Column = []
    offered_bytes: Column = []
    delivered_packets: Column = []
    delivered_bytes: Column = []
    held_packets: Column = []
    dropped: dict[str, Column] = {}

    @model_validator(mode="before")
    @classmethod
    def nothing_was_copied(cls, told: Any) -> Any:
        if isinstance(told, dict) and "copied_packets" not in told and isinstance(told.get("offered_packets"), list):
            return {**told, "copied_packets": [0] * len(told["offered_packets"])}
        return told


class CounterSeries(Part):
    at_ns: Column = []
    uplink: DirectionCounts = DirectionCounts()
    downlink: DirectionCounts = DirectionCounts()


class ProbeSeries(Part):
    """Probes of one direction in the order of their sending.

    sent_ns: transmit stamp. delay_ns: measured one way, −1 for lost. commanded_ns: the delay line at the send instant,
    overlay included. expected_ns: what the link should have made of it, with serialisation, jitter where known and
    FIFO; equal to commanded_ns plus serialisation where nothing more is known. calm: 1 where no queue could stand.
    """

    sent_ns: Column = []
    delay_ns: Column = []
    commanded_ns: Column = []
    expected_ns: Column = []
    calm: Column = []
    stamp_source: Literal["kernel", "user space", "mixed", ""] = ""
    interval_ns: int = 0
    not_sent: Count = 0
    refused: Count = 0
    receiver_overflow: Count = 0


class Transfer(Part):
    """A TCP transfer: bytes of payload received by the application so far, at each instant."""

    direction: Direction = "downlink"
    at_ns: Column = []
    bytes: Column = []
    congestion: str = ""
    connections: Count = 1
    retransmitted: Count = 0


class Event(Part):
    """Something that somebody did to the link."""

    kind: str
    label: str
    at_ns: int
    duration_ns: Count = 0
    direction: Literal["both", "uplink", "downlink"] = "both"


class Check(Part):
    """Something that the run was to show, and whether it did."""

    what: str
    passed: bool
    outcome: str


class Flow(Part):
    """One direction of a TCP connection in a capture. again: segments that were sent before; payload without these."""

    name: str
    segments: Count
    payload_bytes: Count
    again: Count
    seconds: float
    round_trip_p50_ms: float | None = None
    round_trip_p95_ms: float | None = None


class Judged(Part):
    """A verdict, in words. taken: undecided, and the test was content with the estimate."""

    outcome: Literal["passed", "failed", "undecided", "invalid"]
    text: str
    taken: bool = False


class Evidence(Part):
    """What proves that the commanded link is the link that was applied, over one stretch of a bench's life.

    lateness_*: of packets against their due times, when they were written. ingress_wait_worst_us: the longest that a
    packet can have waited before its arrival was stamped. starved: packets for which the Timeline was not planned yet.
    beside_the_link: packets dropped by what is not the link, by the name of the cause. conserved: whether offered +
    copied = delivered + dropped + held, in both directions. lateness_allowed_us: of lateness_p99_us, if not the usual.
    """

    packets: Count = 0
    lateness_p50_us: Count = 0
    lateness_p99_us: Count = 0
    lateness_worst_us: Count = 0
    ingress_wait_worst_us: Count = 0
    starved: Count = 0
    broken_batches: Count = 0
    beside_the_link: dict[str, Count] = {}
    conserved: bool = True
    lateness_allowed_us: int | None = None


class RunRecord(Part):
    """One run. `slot_s` 0: the link has no slots. outcome: of the test that it was; repeat: the command that runs it
    again; both empty if it was none.
    """

    format: Literal["bentpipe-run-1"] = FORMAT
    version: str
    title: str
    scenario_name: str
    scenario: dict[str, Any] = {}
    seed: int
    start_utc_ns: int
    duration_ns: Count
    interrupted: bool = False
    outcome: str = ""
    repeat: str = ""
    slot_s: float = 0.0
    slot_phase_s: float = 0.0
    states: StateSeries = StateSeries()
    hardware: HardwareSeries = HardwareSeries()
    counters: CounterSeries = CounterSeries()
    uplink_probes: ProbeSeries = ProbeSeries()
    downlink_probes: ProbeSeries = ProbeSeries()
    transfer: Transfer | None = None
    events: list[Event] = []
    checks: list[Check] = []
    evidence: Evidence | None = None
    verdicts: list[Judged] = []
    flows: list[Flow] = []
    logs: dict[str, str] = {}
    machine: dict[str, str] = {}

    @classmethod
    def vocabularies(cls) -> set[str]:
        return {"events", "checks", "verdicts", "flows"}

    def probes(self, direction: Direction) -> ProbeSeries:
        return self.uplink_probes if direction == "uplink" else self.downlink_probes

    def slot_starts_ns(self) -> list[int]:
        """Slot boundaries within the run, in ns from its start."""
        if not self.slot_s:
            return []
        slot_ns = round(self.slot_s * 1e9)
        phase_ns = round(self.slot_phase_s * 1e9)
        first = (phase_ns - self.start_utc_ns) % slot_ns
        return list(range(first, self.duration_ns + 1, slot_ns))

    def as_bytes(self) -> bytes:
        """As it stands in its file."""
        return self.model_dump_json().encode()

    def save(self, path: Path) -> None:
        """Write the record. Raises EndpointError."""
        with output_file(path) as file:
            file.write(self.as_bytes())


def load_record(path: Path) -> RunRecord:
    """Read a record that `save` wrote. Raises EndpointError, and ScenarioError with a line per fault."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise EndpointError(f"{path}: cannot read the run record: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ScenarioError([f"{path}: expected a run record (JSON), got bytes that are no text"]) from error
    try:
        return RunRecord.model_validate_json(text)
    except ValidationError as error:
        problems = [
            f"{path}: {'.'.join(str(part) for part in fault['loc']) or 'run record'}: {fault['msg']}"
            for fault in error.errors()
        ]
        raise ScenarioError(problems) from error
