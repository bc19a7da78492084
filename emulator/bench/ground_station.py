"""The management interface of a cloud ground-station service, as far as azure-mgmt-orbital (PyPI, 2.0) exercises it.

Spacecraft, contact profiles, ground stations, available contacts, scheduling and cancelling. What contacts there are
comes from the scenario's sky; everything else is kept in memory. Paths and bodies follow Azure Resource Manager and
api-version 2022-11-01 of Microsoft.Orbital; a long-running operation has always ended when it is answered.
"""

from __future__ import annotations

import http.server
import json
import re
import socket
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from emulator.errors import EmulationError, EndpointError
from emulator.timeline.model import Contact, Windows
from emulator.units import NS_PER_S, format_utc, parse_utc_ns

LONGEST_SEARCH_NS = 7 * 86_400 * NS_PER_S
LARGEST_BODY_BYTES = 1 << 20
PROVIDER = "Microsoft.Orbital"
_PATH = re.compile(
    rf"/subscriptions/(?P<subscription>[^/]+)(?:/resourceGroups/(?P<group>[^/]+))?/providers/{PROVIDER}(?P<rest>(?:/[^/]+)+)"
)


class Refusal(Exception):
    """What the service says no to: status, code and message, as Azure Resource Manager tells them."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


@dataclass
class _Store:
    """Resources by their lower-case id, which is how Azure compares them."""

    items: dict[str, dict[str, Any]] = field(default_factory=dict)

    def get(self, identity: str, what: str) -> dict[str, Any]:
        found = self.items.get(identity.lower())
        if found is None:
            raise Refusal(404, "ResourceNotFound", f"{what} {identity}: expected one that exists")
        return found

    def below(self, prefix: str, kind: str) -> list[dict[str, Any]]:
        start, kind = prefix.lower(), f"{PROVIDER}/{kind}".lower()
        return [item for key, item in self.items.items() if key.startswith(start) and item["type"].lower() == kind]


class GroundStationService:
    """Sans I/O: `answer` takes a request and gives status and body. Contacts are those of `windows`; `now_ns`: UTC.

    on_change: told after every request that may have changed what is reserved.
    """

    def __init__(self, windows: Windows, stations: tuple[str, ...], now_ns: Callable[[], int]) -> None:
        self._windows, self._stations, self._now_ns = windows, stations, now_ns
        self._store = _Store()
        self._changing = threading.Lock()
        self.on_change: Callable[[], None] | None = None

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, dict[str, Any]]:
        """The status and the body of the answer; never raises for what a client sends."""
        try:
            if len(body) > LARGEST_BODY_BYTES:
                raise Refusal(413, "RequestTooLarge", f"expected at most {LARGEST_BODY_BYTES} bytes")
            try:
                sent = json.loads(body) if body else {}
            except (ValueError, RecursionError) as error:
                raise Refusal(400, "InvalidRequestContent", "expected a JSON object") from error
            if not isinstance(sent, dict):
                raise Refusal(400, "InvalidRequestContent", "expected a JSON object")
            match = _PATH.fullmatch(path.partition("?")[0].rstrip("/"))
            if match is None:
                raise Refusal(404, "InvalidResourceType", f"{path[:200]}: expected a resource of {PROVIDER}")
            parts = match["rest"].strip("/").split("/")
            base = match[0][: -len(match["rest"])]
            with self._changing:
                answer = self._route(method, base, parts, sent)
            if self.on_change is not None and method != "GET":
                self.on_change()
            return answer
        except Refusal as refusal:
            return refusal.status, {"error": {"code": refusal.code, "message": str(refusal)}}
        except EmulationError as error:  # of what was told of the change
            return 503, {"error": {"code": "ServiceUnavailable", "message": str(error)}}

    def _route(self, method: str, base: str, parts: list[str], sent: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        match (method, *[part if number % 2 == 0 else "*" for number, part in enumerate(parts)]):
            case ("GET", "availableGroundStations"):
                return 200, {"value": [_station(base, name) for name in self._stations]}
            case ("GET", "availableGroundStations", "*"):
                if parts[1] not in self._stations:
                    raise Refusal(404, "ResourceNotFound", f"ground station {parts[1]}: expected {self._known()}")
                return 200, _station(base, parts[1])
            case ("GET", "spacecrafts" | "contactProfiles") | ("GET", "spacecrafts", "*", "contacts"):
                kind = "/".join(parts[::2])
                prefix = f"{base}/{'/'.join(parts[:-1])}" if len(parts) > 1 else base.partition("/providers/")[0]
                return 200, {"value": [self._shown(item) for item in self._store.below(prefix, kind)]}
            case ("POST", "spacecrafts", "*", "listAvailableContacts"):
                spacecraft = self._store.get(f"{base}/spacecrafts/{parts[1]}", "spacecraft")
                return 200, {"value": self._available(spacecraft, sent)}
            case ("PUT", "spacecrafts" | "contactProfiles", "*") | ("PUT", "spacecrafts", "*", "contacts", "*"):
                return self._put(f"{base}/{'/'.join(parts)}", parts, sent)
            case (_, "spacecrafts" | "contactProfiles", "*") | (_, "spacecrafts", "*", "contacts", "*"):
                return self._existing(method, f"{base}/{'/'.join(parts)}", parts, sent)
        raise Refusal(404, "InvalidResourceType", f"{'/'.join(parts)[:200]}: expected a resource of {PROVIDER}")

    def _put(self, identity: str, parts: list[str], sent: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        properties = sent.get("properties")
        if not isinstance(properties, dict):
            raise Refusal(400, "InvalidRequestContent", "properties: expected an object")
        if parts[-2] == "contacts":
            self._store.get(identity.rpartition("/contacts/")[0], "spacecraft")
            self._check_reservation(identity, properties)
        known = identity.lower() in self._store.items
        item = {
            "id": identity,
            "name": parts[-1],
            "type": f"{PROVIDER}/{'/'.join(parts[::2])}",
            "properties": properties,
        }
        item |= {key: sent[key] for key in ("location", "tags") if key in sent}
        self._store.items[identity.lower()] = item
        return 200 if known else 201, self._shown(item)

    def _existing(
        self, method: str, identity: str, parts: list[str], sent: dict[str, Any]
    ) -> tuple[int, dict[str, Any]]:
        what = parts[-2].rstrip("s")
        if method == "DELETE":
            if self._store.items.pop(identity.lower(), None) is None:
                return 204, {}
            for below in [key for key in self._store.items if key.startswith(f"{identity.lower()}/")]:
                del self._store.items[below]
            return 200, {}
        item = self._store.get(identity, what)
        if method == "PATCH":
            item["tags"] = sent.get("tags") or {}
        elif method != "GET":
            raise Refusal(405, "MethodNotAllowed", f"{method}: expected GET, PUT, PATCH or DELETE")
        return 200, self._shown(item)

    def _shown(self, item: dict[str, Any]) -> dict[str, Any]:
        """A resource as it is told: done, and a contact with what has become of it."""
        properties = {**item["properties"], "provisioningState": "Succeeded"}
        if item["type"].endswith("/contacts"):
            over = _utc(properties, "reservationEndTime") <= self._now_ns()
            properties["status"] = "succeeded" if over else "scheduled"
            properties |= {
                "rxStartTime": properties["reservationStartTime"],
                "rxEndTime": properties["reservationEndTime"],
            }
            properties |= {"txStartTime": properties["rxStartTime"], "txEndTime": properties["rxEndTime"]}
        return {**item, "properties": properties}

    def _passes(self, station: object, start_ns: int, end_ns: int) -> list[Contact]:
        if station not in self._stations:
            raise Refusal(
                400, "InvalidGroundStation", f"groundStationName: expected {self._known()}, got {station!r:.60}"
            )
        if not 0 < end_ns - start_ns <= LONGEST_SEARCH_NS:
            raise Refusal(400, "InvalidTimeRange", "endTime: expected within 7 days after startTime")
        return [one for one in self._windows.contacts(start_ns, end_ns) if one.station == station]

    def _available(self, spacecraft: dict[str, Any], sent: dict[str, Any]) -> list[dict[str, Any]]:
        profile = sent.get("contactProfile")
        self._store.get(str(profile.get("id")) if isinstance(profile, dict) else "", "contact profile")
        start_ns, end_ns = _utc(sent, "startTime"), _utc(sent, "endTime")
        return [
            {
                "spacecraft": {"id": spacecraft["id"]},
                "groundStationName": one.station,
                "properties": {
                    "maximumElevationDegrees": round(one.highest_deg, 3),
                    **{f"{way}StartTime": format_utc(one.start_ns) for way in ("rx", "tx")},
                    **{f"{way}EndTime": format_utc(one.end_ns) for way in ("rx", "tx")},
                },
            }
            for one in self._passes(sent.get("groundStationName"), start_ns, end_ns)
        ]

    def _check_reservation(self, identity: str, properties: dict[str, Any]) -> None:
        profile = properties.get("contactProfile")
        self._store.get(str(profile.get("id")) if isinstance(profile, dict) else "", "contact profile")
        start_ns, end_ns = _utc(properties, "reservationStartTime"), _utc(properties, "reservationEndTime")
        if start_ns < self._now_ns():
            raise Refusal(400, "InvalidTimeRange", "reservationStartTime: expected a time to come")
        around = start_ns - 3600 * NS_PER_S, end_ns + 3600 * NS_PER_S
        station = properties.get("groundStationName")
        slack = NS_PER_S  # clients cut fractions of seconds
        if not any(
            one.start_ns - slack <= start_ns < end_ns <= one.end_ns + slack for one in self._passes(station, *around)
        ):
            raise Refusal(400, "ContactNotAvailable", f"{station}: no contact covers the reservation")
        for key, other in self._store.items.items():
            theirs = other["properties"]
            if not other["type"].endswith("/contacts") or key == identity.lower():
                continue
            first, last = _utc(theirs, "reservationStartTime"), _utc(theirs, "reservationEndTime")
            if theirs["groundStationName"] == station and first < end_ns and start_ns < last:
                raise Refusal(409, "ContactConflict", f"{station}: {other['name']} has reserved this time")

    def reservations(self) -> list[tuple[int, int]]:
        """[begin, end) of every contact that is scheduled, ns of UTC."""
        with self._changing:
            contacts = [item["properties"] for item in self._store.items.values() if item["type"].endswith("/contacts")]
        return [(_utc(one, "reservationStartTime"), _utc(one, "reservationEndTime")) for one in contacts]

    def _known(self) -> str:
        return f"one of {', '.join(self._stations)}"


def _station(base: str, name: str) -> dict[str, Any]:
    return {
        "id": f"{base}/availableGroundStations/{name}",
        "name": name,
        "type": f"{PROVIDER}/availableGroundStations",
        "location": "local",
        "properties": {"city": name, "providerName": "bentpipe"},
    }


def _utc(values: dict[str, Any], key: str) -> int:
    text = values.get(key)
    try:
        return parse_utc_ns(re.sub(r"(\+00:00)$", "Z", str(text)))
    except ValueError as error:
        raise Refusal(
            400, "InvalidTimeRange", f"{key}: expected a UTC such as 2025-05-29T23:21:27Z, got {text!r:.60}"
        ) from error


class _QuietServer(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away before it has its answer is nobody's fault."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class GroundStationServer:
    """The service over HTTP, in threads of its own; a context. Raises EndpointError if the port cannot be had.

    listener: a socket that listens already, in place of host and port.
    """

    def __init__(
        self, service: GroundStationService, host: str, port: int, listener: socket.socket | None = None
    ) -> None:
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 30

            def serve(self) -> None:
                length = self.headers.get("Content-Length", "0")
                size = int(length) if length.isdigit() else 0
                if size > LARGEST_BODY_BYTES:
                    self.close_connection = True
                body = self.rfile.read(min(size, LARGEST_BODY_BYTES + 1))
                status, answer = service.answer(self.command, self.path, body)
                data = b"" if status == 204 else json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_PUT = do_POST = do_PATCH = do_DELETE = serve  # noqa: N815 (http.server's names)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (http.server's name)
                """Quiet: stdout and stderr are the command's."""

        try:
            self._server = _QuietServer((host, port), Handler, bind_and_activate=listener is None)
            if listener is not None:
                self._server.socket.close()
                self._server.socket, self._server.server_address = listener, listener.getsockname()
        except OSError as error:
            raise EndpointError(f"{host}:{port}: {error.strerror}") from error
        self.host, self.port = str(self._server.server_address[0]), int(self._server.server_address[1])

    def __enter__(self) -> GroundStationServer:
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
