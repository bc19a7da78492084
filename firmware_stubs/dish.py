"""A Starlink dish's management interface: a request in bytes, its answer in bytes. Sans-I/O, time is an argument.

The transport is `dish_server` (gRPC) and `dish_web` (gRPC-Web). Errors are gRPC's status codes, as the device gives
them; what is no request at all is answered too, and nothing is ever raised over it.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from google.protobuf.message import DecodeError

from emulator import __version__
from emulator.terminal.dish import MINUTES_OF_DAY, DishTerminal
from emulator.terminal.dish_record import (
    MAP_MAX_THETA_DEG,
    MAP_MIN_ELEVATION_DEG,
    MAP_SIZE,
    Outage,
    OutageCause,
)
from emulator.units import NS_PER_S
from firmware_stubs.dish_messages import message

API_VERSION = 42  # shared/INTERFACES.md: mid-2026
NO_LOCATION = "GetLocation requests are not enabled on this device"  # the same
UNREADABLE = "grpc: error unmarshalling request: proto: cannot parse invalid data"
ETHERNET_MBPS = 1000
FRAME_EARTH, PASSED, FAILED, OKAY, IDLE, LOCAL, GPS_SOURCE = 1, 1, 2, 1, 1, 1, 4  # values of the enums in dish_messages
NEVER_S = -1.0  # seconds since an outage that there has not been: a stated choice


class Code(IntEnum):
    """Of gRPC's status codes, those that the dish uses."""

    OK = 0
    INVALID_ARGUMENT = 3
    PERMISSION_DENIED = 7
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14


class Refusal(Exception):
    """A request that the device does not carry out."""

    def __init__(self, code: Code, text: str) -> None:
        super().__init__(text)
        self.code, self.text = code, text


@dataclass(frozen=True, slots=True)
class Answer:
    """`data`: a serialized Response, empty unless `code` is OK. `text`: what goes with any other code."""

    code: Code
    text: str
    data: bytes


class DishStub:
    """The interface of `dish`. `commanded` is called, with the dish's lock held, when a request may have moved it."""

    def __init__(self, dish: DishTerminal, commanded: Callable[[], None] = lambda: None) -> None:
        self.dish, self._commanded = dish, commanded
        self._request, self._response = message("Request"), message("Response")
        self._verbs: dict[str, Callable[[Any, Any, int], None]] = {
            "reboot": self._reboot,
            "get_status": self._status,
            "get_history": self._history,
            "get_device_info": self._info,
            "get_location": self._location,
            "dish_stow": self._stow,
            "dish_get_context": self._context,
            "dish_get_obstruction_map": self._map,
            "dish_set_config": self._set_config,
            "dish_get_config": self._get_config,
            "dish_power_save": self._power_save,
            "dish_inhibit_gps": self._inhibit_gps,
            "dish_clear_obstruction_map": self._clear_map,
            "get_diagnostics": self._diagnostics,
        }

    def answer(self, data: bytes, now_ns: int) -> Answer:
        """The answer to a serialized Request. Never raises."""
        try:
            request = self._request.FromString(data)
        except (DecodeError, ValueError, RecursionError):
            return Answer(Code.INTERNAL, UNREADABLE, b"")
        try:
            return Answer(Code.OK, "", self.respond(request, now_ns).SerializeToString())
        except Refusal as refusal:
            return Answer(refusal.code, refusal.text, b"")

    def respond(self, request: Any, now_ns: int) -> Any:
        """The Response to a Request. Raises Refusal."""
        verb = request.WhichOneof("request")
        if verb not in self._verbs:
            raise Refusal(Code.UNIMPLEMENTED, "Unimplemented: unknown request")
        response = self._response(id=request.id, api_version=API_VERSION)
        with self.dish.lock:
            self.dish.advance(now_ns)
            if not self.dish.reachable:
                raise Refusal(Code.UNAVAILABLE, "the dish is booting")
            self._verbs[verb](getattr(request, verb), response, now_ns)
        return response

    # what a client reads

    def _status(self, _request: Any, response: Any, now_ns: int) -> None:
        dish, status, last = self.dish, response.dish_get_status, self.dish.last_second
        outage, fix = dish.outage, dish.fix
        self._fill_info(status.device_info)
        status.device_state.uptime_s = dish.uptime_ns // NS_PER_S
        status.seconds_to_first_nonempty_slot = dish.seconds_to_schedule
        status.pop_ping_drop_rate = last.ping_drop_rate if outage is None else 1.0
        status.pop_ping_latency_ms = last.ping_latency_ms
        status.downlink_throughput_bps = last.downlink_bps
        status.uplink_throughput_bps = last.uplink_bps
        self._fill_obstruction(status.obstruction_stats)
        status.alerts.is_power_save_idle = outage is not None and outage.cause is OutageCause.SLEEPING
        status.alerts.thermal_shutdown = dish.befallen("overheat")
        status.alerts.thermal_throttle = dish.befallen("throttle")
        status.alerts.motors_stuck = dish.befallen("motors_stuck")
        status.stow_requested = dish.stowed
        status.boresight_azimuth_deg, status.boresight_elevation_deg = self._boresight()
        if outage is not None:
            _fill_outage(status.outage, outage)
        status.gps_stats.gps_valid = dish.gps_valid
        status.gps_stats.gps_sats = fix.satellites_used if fix is not None else 0
        status.gps_stats.inhibit_gps = dish.inhibit_gps
        status.eth_speed_mbps = ETHERNET_MBPS
        status.is_snr_above_noise_floor = outage is None
        status.software_update_state = IDLE
        status.disablement_code = OKAY

    def _history(self, _request: Any, response: Any, now_ns: int) -> None:
        kept, history = self.dish.history, response.dish_get_history
        history.current = kept.current
        history.pop_ping_drop_rate.extend(kept.ping_drop_rate)
        history.pop_ping_latency_ms.extend(kept.ping_latency_ms)
        history.downlink_throughput_bps.extend(kept.downlink_bps)
        history.uplink_throughput_bps.extend(kept.uplink_bps)
        history.power_in.extend(kept.power_w)
        for outage in self.dish.outages.recent(self.dish.now_ns):
            _fill_outage(history.outages.add(), outage)

    def _info(self, _request: Any, response: Any, now_ns: int) -> None:
        self._fill_info(response.get_device_info.device_info)

    def _location(self, _request: Any, response: Any, now_ns: int) -> None:
        if not self.dish.settings.location_consent:
            raise Refusal(Code.PERMISSION_DENIED, NO_LOCATION)
        place, location = self.dish.place, response.get_location
        location.source = GPS_SOURCE
        if place is None or not self.dish.gps_valid:
            location.lla.SetInParent()  # the device has no fix: zeros
            return
        location.lla.lat, location.lla.lon = place.latitude_deg, place.longitude_deg
        location.lla.alt = place.altitude_m
        location.sigma_m = 5.0

    def _context(self, _request: Any, response: Any, now_ns: int) -> None:
        dish, context = self.dish, response.dish_get_context
        self._fill_info(context.device_info)
        context.device_state.uptime_s = dish.uptime_ns // NS_PER_S
        context.obstruction_fraction = dish.map.fraction_obstructed
        context.obstruction_valid_s = dish.map.valid_s
        context.obstruction_current = dish.obstructed
        context.initial_satellite_id = _number_of(dish.sky.satellite)
        context.initial_gateway_id = _number_of(dish.sky.gateway)
        if dish.sky.slot_end_ns is not None:
            context.seconds_to_slot_end = max(0, dish.sky.slot_end_ns - dish.now_ns) / NS_PER_S
        context.pop_ping_drop_rate_15s_mean, context.pop_ping_latency_ms_15s_mean = dish.history.recent(15)
        for length_s in (1, 2, 5, 15, 60):
            since_s = dish.outages.seconds_since(length_s, dish.now_ns)
            setattr(context, f"seconds_since_last_{length_s}s_outage", NEVER_S if since_s is None else since_s)
        context.disablement_code = OKAY

    def _map(self, _request: Any, response: Any, now_ns: int) -> None:
        shown = response.dish_get_obstruction_map
        shown.num_rows = shown.num_cols = MAP_SIZE
        shown.snr.extend(self.dish.map.snr)
        shown.min_elevation_deg, shown.max_theta_deg = MAP_MIN_ELEVATION_DEG, MAP_MAX_THETA_DEG
        shown.map_reference_frame = FRAME_EARTH

    def _get_config(self, _request: Any, response: Any, now_ns: int) -> None:
        self._fill_config(response.dish_get_config.dish_config)

    def _diagnostics(self, _request: Any, response: Any, now_ns: int) -> None:
        dish, found = self.dish, response.dish_get_diagnostics
        found.id, found.hardware_version = dish.settings.id, dish.settings.hardware_version
        found.software_version, found.utc_offset_s = _software_version(), dish.settings.utc_offset_s
        found.alerts.obstructed = dish.obstructed
        found.alerts.dish_thermal_shutdown = dish.befallen("overheat")
        found.alerts.dish_thermal_throttle = dish.befallen("throttle")
        found.alerts.motors_stuck = dish.befallen("motors_stuck")
        found.disablement_code = OKAY
        found.hardware_self_test = FAILED if dish.befallen("fault") else PASSED
        found.location.enabled = dish.settings.location_consent
        place = dish.place
        if dish.settings.location_consent and place is not None and dish.gps_valid:
            found.location.latitude, found.location.longitude = place.latitude_deg, place.longitude_deg
            found.location.altitude_meters = place.altitude_m

    # what a client orders

    def _reboot(self, _request: Any, response: Any, now_ns: int) -> None:
        response.reboot.SetInParent()
        self.dish.reboot(now_ns)
        self._commanded()

    def _stow(self, request: Any, response: Any, now_ns: int) -> None:
        response.dish_stow.SetInParent()
        self.dish.stow(now_ns, unstow=request.unstow)
        self._commanded()

    def _set_config(self, request: Any, response: Any, now_ns: int) -> None:
        """Takes the keys whose `apply_` is set."""
        wanted = request.dish_config
        if wanted.apply_location_request_mode:
            raise Refusal(Code.PERMISSION_DENIED, "location_request_mode is the account's to change")
        names = [name for name in _SETTABLE if getattr(wanted, f"apply_{name}")]
        self._configure({name: getattr(wanted, name) for name in names}, now_ns)
        self._fill_config(response.dish_set_config.updated_dish_config)

    def _power_save(self, request: Any, response: Any, now_ns: int) -> None:
        if request.power_save_duration_minutes == 0:
            raise Refusal(Code.INVALID_ARGUMENT, "power_save_duration_minutes must not be 0")
        changes: dict[str, int] = {"power_save_mode": request.enable_power_save}
        if request.enable_power_save:
            changes["power_save_start_minutes"] = request.power_save_start_minutes
            changes["power_save_duration_minutes"] = request.power_save_duration_minutes
        self._configure(changes, now_ns)

    def _configure(self, changes: dict[str, int], now_ns: int) -> None:
        if changes.get("power_save_start_minutes", 0) >= MINUTES_OF_DAY:
            raise Refusal(Code.INVALID_ARGUMENT, f"power_save_start_minutes must be below {MINUTES_OF_DAY}")
        if changes.get("power_save_duration_minutes", 0) > MINUTES_OF_DAY:
            raise Refusal(Code.INVALID_ARGUMENT, f"power_save_duration_minutes must be at most {MINUTES_OF_DAY}")
        if changes:
            self.dish.configure(now_ns, **changes)
            self._commanded()

    def _inhibit_gps(self, request: Any, response: Any, now_ns: int) -> None:
        self.dish.inhibit_gps = request.inhibit_gps
        response.dish_inhibit_gps.inhibit_gps = request.inhibit_gps

    def _clear_map(self, _request: Any, response: Any, now_ns: int) -> None:
        response.dish_clear_obstruction_map.SetInParent()
        self.dish.clear_map()

    # parts of messages

    def _fill_info(self, info: Any) -> None:
        settings = self.dish.settings
        info.id, info.hardware_version, info.software_version = (
            settings.id,
            settings.hardware_version,
            _software_version(),
        )
        info.country_code, info.utc_offset_s = settings.country_code, settings.utc_offset_s
        info.bootcount = 1 + self.dish.reboots
        info.is_hitl = True

    def _fill_obstruction(self, stats: Any) -> None:
        seen = self.dish.map
        count, mean_s = self.dish.outages.prolonged(OutageCause.OBSTRUCTED)
        stats.fraction_obstructed, stats.valid_s = seen.fraction_obstructed, seen.valid_s
        stats.currently_obstructed = self.dish.obstructed
        stats.avg_prolonged_obstruction_duration_s = mean_s
        stats.avg_prolonged_obstruction_interval_s = seen.valid_s / count if count else math.nan
        stats.avg_prolonged_obstruction_valid = count > 0
        stats.time_obstructed, stats.patches_valid = seen.obstructed_s, seen.painted

    def _fill_config(self, config: Any) -> None:
        for name in _SETTABLE:
            setattr(config, name, getattr(self.dish.config, name))
        if self.dish.settings.location_consent:
            config.location_request_mode = LOCAL

    def _boresight(self) -> tuple[float, float]:
        """Towards the serving satellite, azimuth from −180 to 180; the zenith where there is none."""
        sky = self.dish.sky
        if sky.azimuth_deg is None or sky.elevation_deg is None or self.dish.stowed:
            return 0.0, 90.0
        return (sky.azimuth_deg + 180.0) % 360.0 - 180.0, sky.elevation_deg


_SETTABLE = (
    "snow_melt_mode",
    "level_dish_mode",
    "power_save_mode",
    "power_save_start_minutes",
    "power_save_duration_minutes",
    "swupdate_three_day_deferral_enabled",
)


def _fill_outage(shown: Any, outage: Outage) -> None:
    shown.cause, shown.start_timestamp_ns = int(outage.cause), outage.start_ns
    shown.duration_ns, shown.did_switch = outage.duration_ns, outage.did_switch


def _software_version() -> str:
    return f"bentpipe-{__version__}"


def _number_of(name: str) -> int:
    """A number for what clients know by number and we by name; 0 for none."""
    return zlib.crc32(name.encode()) if name else 0
