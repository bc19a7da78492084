"""The terminal's hardware: its antenna, and the devices that programs at its side talk to; stubs or the real thing."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from emulator.scenario.fields import Table

AntennaProtocol = Literal["easycomm2", "easycomm3", "gs232b", "rotctld", "openamip"]
DeviceKind = Literal["nmea", "ubx", "sbd", "ntn", "jspr", "slip"]
Azimuth = Annotated[float, Field(ge=-360, le=720)]
Seconds = Annotated[float, Field(ge=0, le=86_400)]

STUB = "stub"


class Firmware(Table):
    """What is behind an interface. `"stub"` in place of a table: our own firmware, without hardware."""

    serial: str = Field(
        "",
        description="the hardware's port: a device such as /dev/ttyUSB0, or pyserial's rfc2217://… and socket://…; "
        "empty: the stub",
    )
    baud: int | None = Field(None, ge=50, le=4_000_000, description="bits per second; default: the interface's own")

    @model_validator(mode="before")
    @classmethod
    def stub_by_name(cls, said: Any) -> Any:
        if isinstance(said, str):
            if said != STUB:
                raise ValueError(f"expected 'stub' or a table such as {{ serial = '/dev/ttyUSB0' }}, got {said!r}")
            return {}
        return said

    @property
    def is_stub(self) -> bool:
        return not self.serial


class AntennaFirmware(Firmware):
    """What controls the antenna. `"stub"` in place of a table: our own controller and mount, without hardware."""

    protocol: AntennaProtocol | None = Field(None, description="what it speaks; default: terminal.antenna.protocol")


class MountTable(Table):
    """What the stub's mount can do; what is left out is a Yaesu G-5500's. Nothing of it is asked of real hardware."""

    azimuth_rate_deg_s: float | None = Field(None, ge=1e-3, le=1e3, description="how fast it turns")
    elevation_rate_deg_s: float | None = Field(None, ge=1e-3, le=1e3, description="the same")
    azimuth_min_deg: float | None = Field(None, ge=-360, le=720, description="limit")
    azimuth_max_deg: float | None = Field(None, ge=-360, le=720, description="limit")
    elevation_min_deg: float | None = Field(None, ge=-90, le=180, description="limit")
    elevation_max_deg: float | None = Field(None, ge=-90, le=180, description="limit")
    backlash_deg: float | None = Field(None, ge=0, le=10, description="play of each gear")
    keyhole_deg: float | None = Field(
        None, ge=0, le=45, description="within this distance of the zenith the azimuth is not driven"
    )
    park_azimuth_deg: float | None = Field(None, ge=-360, le=720, description="where it stands at first")
    park_elevation_deg: float | None = Field(None, ge=-90, le=180, description="the same")


class Blockage(Table):
    """Something of the vehicle's own in the way: a mast, a funnel, a wing. Directions as the mount has them."""

    azimuth_from_deg: float = Field(ge=0, lt=360, description="clockwise from here …")
    azimuth_to_deg: float = Field(ge=0, lt=360, description="… to here, over north if need be")
    elevation_below_deg: float = Field(90.0, gt=-90, le=90, description="it reaches up to here")
    loss_db: float = Field(30.0, gt=0, le=100, description="of what passes through it")

    def hides(self, azimuth_deg: float, elevation_deg: float) -> bool:
        """Whether it stands before a direction."""
        width_deg = (self.azimuth_to_deg - self.azimuth_from_deg) % 360.0
        return elevation_deg < self.elevation_below_deg and (azimuth_deg - self.azimuth_from_deg) % 360.0 <= width_deg


class AntennaFault(Table):
    """Something that the stub's hardware does wrong for a time."""

    kind: Literal["motor", "encoder", "cut", "stuck", "noise"] = Field(
        description="motor: commands do not move it; encoder: it is not where it says; cut: nothing passes on the "
        "line; stuck: nothing comes back, and all of it when the fault ends; noise: bytes change on the line"
    )
    at_s: float = Field(ge=0, description="when it begins, from the start of the bench")
    duration_s: float = Field(gt=0, description="how long it lasts")
    azimuth_deg: float = Field(0.0, ge=-180, le=180, description="for kind encoder: where it is, less where it says")
    elevation_deg: float = Field(0.0, ge=-180, le=180, description="the same")


class AntennaTable(Table):
    """A steered antenna in the loop: where it points decides what the packets get."""

    firmware: AntennaFirmware = Field(AntennaFirmware(), description="the stub, or a controller on a serial port")
    protocol: AntennaProtocol = Field("easycomm2", description="what the controller speaks")
    port: str = Field(
        "",
        description="where other programs command it, as rotctld is reached: tcp:127.0.0.1:4533 (port 0: a free one); "
        "empty: nowhere",
    )
    beacon_port: str = Field(
        "",
        description="where a controller reads how strongly the antenna hears its satellite, at 10 Hz: pty, path of a "
        "link to make, a serial device, tcp:127.0.0.1:PORT; empty: nowhere",
    )
    tracking: Literal["program", "none"] = Field(
        "program", description="program: the bench sends it after the serving satellite; none: somebody else does"
    )
    beam_width_deg: float = Field(gt=0, le=180, description="half-power width of the beam at which it receives")
    transmit_beam_width_deg: float | None = Field(
        None, gt=0, le=180, description="the same where it transmits; default: as it receives"
    )
    floor_db: float = Field(
        30.0,  # 3GPP TR 38.901 table 7.3-1: A_max
        gt=0,
        le=100,
        description="most that pointing takes from the gain: the side lobes",
    )
    acquisition_s: Seconds = Field(5.0, description="from the first usable signal until traffic flows; a guess")
    poll_ms: float = Field(50.0, ge=5, le=60_000, description="how often the controller is asked where it points")
    silence_s: Seconds = Field(1.0, description="so long without an answer is told as silence")
    attitude: str = Field(
        "", description="CSV file: t_s,roll_deg,pitch_deg,heading_deg, of what carries the mount; empty: level, north"
    )
    stabilised: bool = Field(True, description="whether tracking by program knows the attitude")
    mount: MountTable = Field(MountTable(), description="of the stub")
    blockages: tuple[Blockage, ...] = Field((), max_length=64, description="what stands in the way")
    faults: tuple[AntennaFault, ...] = Field((), max_length=64, description="of the stub")
    record: str = Field("", description="file for every exchange with the controller, JSON lines; empty: none")


class GnssLoss(Table):
    """A time in which the terminal's GNSS receiver hears no satellite: a tunnel, a jammer."""

    at_s: float = Field(ge=0, description="when it begins, from the start of the bench")
    duration_s: float = Field(gt=0, description="how long it lasts")


class DishEvent(Table):
    """Something that befalls the Starlink dish for a time."""

    kind: Literal["overheat", "fault", "throttle", "motors_stuck", "obstruction"] = Field(
        description="overheat: it shuts down, and searches afterwards; fault: the same of its radio; throttle, "
        "motors_stuck: alerts alone; obstruction: something stands in its view"
    )
    at_s: float = Field(ge=0, description="when it begins, from the start of the dish")
    duration_s: float = Field(gt=0, description="how long it lasts")


class Device(Table):
    """An interface of the terminal's that programs open: the stub's, or the hardware's, watched on its way."""

    kind: DeviceKind = Field(description="as `bentpipe stub` names it; slip: IP over this line, in place of ut0")
    port: str = Field(
        "pty",
        min_length=1,
        description="what programs open: path of a link to make, pty (one is chosen), tcp:127.0.0.1:PORT",
    )
    firmware: Firmware = Field(Firmware(), description="the stub, or the hardware's port")
    mailbox: str = Field("", description="of a message service's stub: its directory; empty: in memory")
    record: str = Field("", description="file for every exchange, JSON lines; empty: none")
