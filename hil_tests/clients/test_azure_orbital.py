"""azure-mgmt-orbital against `GroundStationService`: profiles, available contacts, scheduling, cancelling."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from azure.core.pipeline.policies import SansIOHTTPPolicy
from azure.mgmt.orbital import AzureOrbital, models
from hypothesis import given, settings
from hypothesis import strategies as st

from emulator.bench.ground_station import GroundStationServer, GroundStationService
from emulator.scenario import load_scenario
from emulator.timeline.build import windows_for
from emulator.units import NS_PER_S, parse_utc_ns

NOW = "2025-05-29T12:00:00Z"
NOW_NS = parse_utc_ns(NOW)
BASE = "/subscriptions/0/resourceGroups/lab/providers/Microsoft.Orbital"
START = datetime.fromisoformat(NOW)


@pytest.fixture(scope="module")
def service() -> GroundStationService:
    scenario = load_scenario("ground_station_contact")
    windows = windows_for(scenario, epoch_utc_ns=NOW_NS)
    return GroundStationService(windows, tuple(station.name for station in scenario.gateways), lambda: NOW_NS)


class NoCredential:
    """Never asked for a token: the policy above it sends none."""


@pytest.fixture
def client(service: GroundStationService) -> Iterator[AzureOrbital]:
    with GroundStationServer(service, "127.0.0.1", 0) as server:
        url = f"http://{server.host}:{server.port}"
        made = AzureOrbital(NoCredential(), "0", base_url=url, authentication_policy=SansIOHTTPPolicy())
        with made:
            yield made


def available(client: AzureOrbital, station: str, hours: float = 24) -> list[Any]:
    profile = models.ContactParametersContactProfile(id=f"{BASE}/contactProfiles/xband")
    asked = profile, station, START, START + timedelta(hours=hours)
    return list(client.spacecrafts.begin_list_available_contacts("lab", "observer", *asked).result())


def test_a_contact_is_found_scheduled_seen_and_cancelled(client: AzureOrbital, service: GroundStationService) -> None:
    client.spacecrafts.begin_create_or_update("lab", "observer", "local", "observer", "1 …", "2 …", []).result()
    network = models.ContactProfilesPropertiesNetworkConfiguration(subnet_id="/subscriptions/0/x")
    profile = client.contact_profiles.begin_create_or_update("lab", "xband", "local", network, []).result()
    assert profile.provisioning_state == "Succeeded"
    stations = client.available_ground_stations.list_by_capability("EarthObservation")
    assert [one.name for one in stations] == ["Svalbard", "Punta Arenas", "Dubbo"]
    found = available(client, "Svalbard")
    sky = [one for one in service._windows.contacts(NOW_NS, NOW_NS + 86_400 * NS_PER_S) if one.station == "Svalbard"]
    assert len(found) == len(sky) > 3, "over the pole at nearly every orbit"
    for told, known in zip(found, sky, strict=True):
        assert abs(told.rx_start_time.timestamp() * NS_PER_S - known.start_ns) < NS_PER_S
        assert told.maximum_elevation_degrees == pytest.approx(known.highest_deg, abs=0.001)
    wanted = found[0]
    xband = models.ContactsPropertiesContactProfile(id=profile.id)
    reservation = models.Contact(
        reservation_start_time=wanted.rx_start_time,
        reservation_end_time=wanted.rx_end_time,
        ground_station_name="Svalbard",
        contact_profile=xband,
    )
    contact = client.contacts.begin_create("lab", "observer", "first", reservation).result()
    assert contact.status == "scheduled"
    assert [one.name for one in client.contacts.list("lab", "observer")] == ["first"]
    with pytest.raises(HttpResponseError, match="first has reserved this time") as caught:
        client.contacts.begin_create("lab", "observer", "second", reservation).result()
    assert caught.value.status_code == 409
    client.contacts.begin_delete("lab", "observer", "first").result()
    with pytest.raises(ResourceNotFoundError):
        client.contacts.get("lab", "observer", "first")
    reservation.reservation_end_time = wanted.rx_end_time + timedelta(hours=1)
    with pytest.raises(HttpResponseError, match="no contact covers the reservation"):
        client.contacts.begin_create("lab", "observer", "third", reservation).result()
    with pytest.raises(HttpResponseError, match="groundStationName: expected one of Svalbard"):
        available(client, "Atlantis")
    client.spacecrafts.begin_delete("lab", "observer").result()
    assert list(client.spacecrafts.list("lab")) == []


@given(
    st.sampled_from(["GET", "PUT", "POST", "PATCH", "DELETE", "HEAD"]),
    st.text(max_size=60) | st.sampled_from(["spacecrafts", "contactProfiles/x", "spacecrafts/x/contacts/y"]),
    st.binary(max_size=60) | st.recursive(st.none() | st.text(max_size=5), lambda below: st.dictionaries(
        st.sampled_from(["properties", "contactProfile", "id", "startTime", "groundStationName"]), below, max_size=3,
    )).map(lambda value: json.dumps(value).encode()),
)  # fmt: skip
@settings(max_examples=200)
def test_whatever_comes_is_answered(method: str, path: str, body: bytes) -> None:
    scenario = load_scenario("ground_station_contact")
    service = GroundStationService(_windows(), tuple(one.name for one in scenario.gateways), lambda: NOW_NS)
    status, answer = service.answer(method, f"{BASE}/{path}", body)
    assert status in (200, 201, 204, 400, 404, 405, 409)
    assert status < 400 or set(answer["error"]) == {"code", "message"}


def _windows() -> Any:
    global _made  # noqa: PLW0603 (the sky is planned once)
    if _made is None:
        _made = windows_for(load_scenario("ground_station_contact"), epoch_utc_ns=NOW_NS)
    return _made


_made: Any = None
