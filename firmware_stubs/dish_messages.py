"""The dish's messages as protobuf descriptors, built from the table below; every field has an explicit JSON name.

Names and numbers are interface facts (shared/INTERFACES.md; those marked + as public clients of the dish have them).
Only what the stub serves is described: a client that sets anything else sends a field unknown to us.
"""

from __future__ import annotations

import functools
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PACKAGE = "SpaceX.API.Device"
SERVICE = f"{PACKAGE}.Device"
STATUS_FILE, DEVICE_FILE = "spacex/api/common/status/status.proto", "spacex/api/device/device.proto"

# Message: fields as `name:type=number`; `*` repeats a field, a type that is no scalar is a message or `Message.Enum`,
# and what stands behind `oneof NAME` belongs to it.
STATUS = {"Status": "code:int32=1 message:string=2"}  # +
DEVICE = {
    "ToDevice": "oneof message request:Request=1",  # +, as the five below
    "FromDevice": "oneof message response:Response=1",
    "GetLocationRequest": "source:PositionSource=1",
    "DishPowerSaveRequest": (
        "power_save_start_minutes:uint32=1 power_save_duration_minutes:uint32=2 enable_power_save:bool=3"
    ),
    "LLAPosition": "lat:double=1 lon:double=2 alt:double=3",
    "GetLocationResponse": "lla:LLAPosition=1 source:PositionSource=3 sigma_m:double=4",
    "Request": (
        "id:uint64=1 oneof request reboot:RebootRequest=1001 get_status:GetStatusRequest=1004 "
        "get_history:GetHistoryRequest=1007 get_device_info:GetDeviceInfoRequest=1008 "
        "get_location:GetLocationRequest=1017 dish_stow:DishStowRequest=2002 "
        "dish_get_context:DishGetContextRequest=2003 dish_get_obstruction_map:DishGetObstructionMapRequest=2008 "
        "dish_set_config:DishSetConfigRequest=2010 dish_get_config:DishGetConfigRequest=2011 "
        "dish_power_save:DishPowerSaveRequest=2013 dish_inhibit_gps:DishInhibitGpsRequest=2014 "
        "dish_clear_obstruction_map:DishClearObstructionMapRequest=2017 get_diagnostics:GetDiagnosticsRequest=6000"
    ),
    "Response": (
        "id:uint64=1 status:.SpaceX.API.Status.Status=2 api_version:uint64=3 oneof response "
        "reboot:RebootResponse=1001 get_device_info:GetDeviceInfoResponse=1004 get_location:GetLocationResponse=1017 "
        "dish_stow:DishStowResponse=2002 dish_get_context:DishGetContextResponse=2003 "
        "dish_get_status:DishGetStatusResponse=2004 dish_get_history:DishGetHistoryResponse=2006 "
        "dish_get_obstruction_map:DishGetObstructionMapResponse=2008 "
        "dish_set_config:DishSetConfigResponse=2010 "  # +
        "dish_get_config:DishGetConfigResponse=2011 dish_inhibit_gps:DishInhibitGpsResponse=2013 "
        "dish_clear_obstruction_map:DishClearObstructionMapResponse=2015 "  # +
        "dish_get_diagnostics:DishGetDiagnosticsResponse=6001"
    ),
    "RebootRequest": "",
    "RebootResponse": "",
    "GetStatusRequest": "",
    "GetHistoryRequest": "",
    "GetDeviceInfoRequest": "",
    "GetDeviceInfoResponse": "device_info:DeviceInfo=1",
    "DishStowRequest": "unstow:bool=1",
    "DishStowResponse": "",
    "DishGetContextRequest": "",
    "DishGetObstructionMapRequest": "",
    "DishSetConfigRequest": "dish_config:DishConfig=1",  # +, as the three below
    "DishSetConfigResponse": "updated_dish_config:DishConfig=1",
    "DishGetConfigResponse": "dish_config:DishConfig=1",
    "DishInhibitGpsRequest": "inhibit_gps:bool=1",
    "DishGetConfigRequest": "",
    "DishInhibitGpsResponse": "inhibit_gps:bool=1",  # +
    "DishClearObstructionMapRequest": "",
    "DishClearObstructionMapResponse": "",
    "GetDiagnosticsRequest": "",
    "DeviceInfo": (
        "id:string=1 hardware_version:string=2 software_version:string=3 country_code:string=4 utc_offset_s:int32=5 "
        "bootcount:int32=8 is_hitl:bool=10"  # bootcount +
    ),
    "DeviceState": "uptime_s:uint64=1",
    "DishObstructionStats": (
        "fraction_obstructed:float=1 valid_s:float=4 currently_obstructed:bool=5 "
        "avg_prolonged_obstruction_duration_s:float=6 avg_prolonged_obstruction_interval_s:float=7 "
        "avg_prolonged_obstruction_valid:bool=8 time_obstructed:float=9 patches_valid:uint32=10"  # 8 to 10 +
    ),
    "DishGpsStats": "gps_valid:bool=1 gps_sats:uint32=2 no_sats_after_ttff:bool=3 inhibit_gps:bool=4",  # 3 +
    "DishAlerts": (  # +
        "motors_stuck:bool=1 thermal_shutdown:bool=2 thermal_throttle:bool=3 unexpected_location:bool=4 "
        "mast_not_near_vertical:bool=5 slow_ethernet_speeds:bool=6 roaming:bool=7 install_pending:bool=8 "
        "is_heating:bool=9 power_supply_thermal_throttle:bool=10 is_power_save_idle:bool=11 dbf_telem_stale:bool=14 "
        "low_motor_current:bool=16 lower_signal_than_predicted:bool=17 slow_ethernet_speeds_100:bool=18 "
        "obstruction_map_reset:bool=19 dish_water_detected:bool=20 router_water_detected:bool=21 "
        "upsu_router_port_slow:bool=22 no_ethernet_link:bool=23"
    ),
    "DishOutage": "cause:DishOutage.Cause=1 start_timestamp_ns:int64=2 duration_ns:uint64=3 did_switch:bool=4",
    "DishGetStatusResponse": (
        "device_info:DeviceInfo=1 device_state:DeviceState=2 seconds_to_first_nonempty_slot:float=1002 "
        "pop_ping_drop_rate:float=1003 obstruction_stats:DishObstructionStats=1004 alerts:DishAlerts=1005 "
        "downlink_throughput_bps:float=1007 uplink_throughput_bps:float=1008 pop_ping_latency_ms:float=1009 "
        "stow_requested:bool=1010 boresight_azimuth_deg:float=1011 boresight_elevation_deg:float=1012 "
        "outage:DishOutage=1014 gps_stats:DishGpsStats=1015 eth_speed_mbps:int32=1016 "
        "is_snr_above_noise_floor:bool=1018 software_update_state:SoftwareUpdateState=1021 "
        "disablement_code:UtDisablementCode=1024 swupdate_reboot_ready:bool=1030"
    ),
    "DishGetHistoryResponse": (
        "current:uint64=1 *pop_ping_drop_rate:float=1001 *pop_ping_latency_ms:float=1002 "
        "*downlink_throughput_bps:float=1003 *uplink_throughput_bps:float=1004 *outages:DishOutage=1009 "
        "*power_in:float=1010"
    ),
    "DishGetObstructionMapResponse": (
        "num_rows:uint32=1 num_cols:uint32=2 *snr:float=3 "
        "min_elevation_deg:float=4 max_theta_deg:float=5 map_reference_frame:ObstructionMapReferenceFrame=6"  # +
    ),
    "DishConfig": (  # +
        "snow_melt_mode:DishConfig.SnowMeltMode=1 location_request_mode:DishConfig.LocationRequestMode=2 "
        "level_dish_mode:DishConfig.LevelDishMode=3 power_save_start_minutes:uint32=4 "
        "power_save_duration_minutes:uint32=5 power_save_mode:bool=6 swupdate_three_day_deferral_enabled:bool=7 "
        "apply_snow_melt_mode:bool=1001 apply_location_request_mode:bool=2001 apply_level_dish_mode:bool=3001 "
        "apply_power_save_start_minutes:bool=4001 apply_power_save_duration_minutes:bool=5001 "
        "apply_power_save_mode:bool=6001 apply_swupdate_three_day_deferral_enabled:bool=7001"
    ),
    "DishGetContextResponse": (  # +
        "device_info:DeviceInfo=1 obstruction_fraction:float=2 obstruction_valid_s:float=3 cell_id:uint32=4 "
        "pop_rack_id:uint32=5 seconds_to_slot_end:float=6 device_state:DeviceState=7 initial_satellite_id:uint32=8 "
        "initial_gateway_id:uint32=9 obstruction_current:bool=12 pop_ping_drop_rate_15s_mean:float=13 "
        "pop_ping_latency_ms_15s_mean:float=14 seconds_since_last_1s_outage:float=15 "
        "seconds_since_last_2s_outage:float=16 seconds_since_last_5s_outage:float=17 "
        "seconds_since_last_15s_outage:float=18 seconds_since_last_60s_outage:float=19 "
        "disablement_code:UtDisablementCode=21"
    ),
    "DishGetDiagnosticsResponse": (  # +
        "id:string=1 hardware_version:string=2 software_version:string=3 utc_offset_s:int32=4 "
        "alerts:DishGetDiagnosticsResponse.Alerts=5 "
        "disablement_code:DishGetDiagnosticsResponse.DisablementCode=6 "
        "hardware_self_test:DishGetDiagnosticsResponse.TestResult=7 "
        "location:DishGetDiagnosticsResponse.Location=8"
    ),
    "DishGetDiagnosticsResponse.Alerts": (
        "dish_is_heating:bool=1 dish_thermal_throttle:bool=2 dish_thermal_shutdown:bool=3 "
        "power_supply_thermal_throttle:bool=4 motors_stuck:bool=5 mast_not_near_vertical:bool=6 "
        "slow_ethernet_speeds:bool=7 software_install_pending:bool=8 moving_too_fast_for_policy:bool=9 "
        "obstructed:bool=10"
    ),
    "DishGetDiagnosticsResponse.Location": (
        "enabled:bool=1 latitude:double=2 longitude:double=3 altitude_meters:double=4"
    ),
}
ENUMS = {
    "DishOutage.Cause": (
        "UNKNOWN=0 BOOTING=1 STOWED=2 THERMAL_SHUTDOWN=3 NO_SCHEDULE=4 NO_SATS=5 OBSTRUCTED=6 NO_DOWNLINK=7 "
        "NO_PINGS=8 SLEEPING=11"
    ),
    "SoftwareUpdateState": "SOFTWARE_UPDATE_STATE_UNKNOWN=0 IDLE=1",  # +, as all below
    "UtDisablementCode": "UNKNOWN_STATE=0 OKAY=1",
    "ObstructionMapReferenceFrame": "FRAME_UNKNOWN=0 FRAME_EARTH=1 FRAME_UT=2",
    "PositionSource": "AUTO=0 NONE=1 UT_INFO=2 EXTERNAL=3 GPS=4 STARLINK=5",
    "DishConfig.SnowMeltMode": "AUTO=0 ALWAYS_ON=1 ALWAYS_OFF=2",
    "DishConfig.LocationRequestMode": "NONE=0 LOCAL=1",
    "DishConfig.LevelDishMode": "TILT_LIKE_NORMAL=0 FORCE_LEVEL=1",
    "DishGetDiagnosticsResponse.TestResult": "NO_RESULT=0 PASSED=1 FAILED=2",
    "DishGetDiagnosticsResponse.DisablementCode": "UNKNOWN=0 OKAY=1",
}


@functools.cache
def pool() -> Any:
    """A descriptor pool of our own: a client in the same process may have another idea of the same names."""
    made = descriptor_pool.DescriptorPool()
    status = descriptor_pb2.FileDescriptorProto(name=STATUS_FILE, package="SpaceX.API.Status", syntax="proto3")
    device = descriptor_pb2.FileDescriptorProto(
        name=DEVICE_FILE, package=PACKAGE, syntax="proto3", dependency=[STATUS_FILE]
    )
    for file, messages in ((status, STATUS), (device, DEVICE)):
        for name, text in messages.items():
            _describe(file, name, text)
    for name, text in ENUMS.items():
        enum = _holder(device, name).enum_type.add(name=name.rpartition(".")[2])
        for entry in text.split():
            label, _, number = entry.partition("=")
            enum.value.add(name=label, number=int(number))
    service = device.service.add(name="Device")
    within = f".{PACKAGE}."
    service.method.add(name="Handle", input_type=within + "Request", output_type=within + "Response")
    service.method.add(
        name="Stream",
        input_type=within + "ToDevice",
        output_type=within + "FromDevice",
        client_streaming=True,
        server_streaming=True,
    )
    made.Add(status)
    made.Add(device)
    return made


@functools.cache
def message(name: str) -> Any:
    """The class of a message of the table, e.g. `Request`."""
    return message_factory.GetMessageClass(pool().FindMessageTypeByName(f"{PACKAGE}.{name}"))


def _holder(file: Any, name: str) -> Any:
    """Where `Outer.Inner` belongs: the message Outer, or the file for a name without a dot."""
    outer = name.rpartition(".")[0]
    return next(made for made in file.message_type if made.name == outer) if outer else file


def _describe(file: Any, name: str, text: str) -> None:
    holder = _holder(file, name)
    made = (holder.nested_type if "." in name else holder.message_type).add(name=name.rpartition(".")[2])
    words = iter(text.split())
    for word in words:
        if word == "oneof":
            made.oneof_decl.add(name=next(words))
            continue
        label, _, rest = word.partition(":")
        kind, _, number = rest.partition("=")
        field = made.field.add(name=label.lstrip("*"), number=int(number))
        field.json_name = _camel(field.name)
        field.label = field.LABEL_REPEATED if label.startswith("*") else field.LABEL_OPTIONAL
        if made.oneof_decl:
            field.oneof_index = len(made.oneof_decl) - 1
        scalar = f"TYPE_{kind.upper()}"
        if scalar in field.Type.keys():  # noqa: SIM118 (no mapping)
            field.type = field.Type.Value(scalar)
        else:
            field.type_name = kind if kind.startswith(".") else f".{PACKAGE}.{kind}"
            field.type = field.TYPE_ENUM if kind in ENUMS else field.TYPE_MESSAGE


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(word[:1].upper() + word[1:] for word in others)
