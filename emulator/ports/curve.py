"""Keys of ZeroMQ endpoints that other machines can reach: who may connect, and as what.

A directory of keys (ZPL certificates, as `zmq.auth` and other tools read them):

    server.key_secret, server.key   the bench's pair; clients need the second file
    NAME.key_secret, NAME.key       a client's pair; the first file goes with server.key to the client's machine
    allow/ROLE/NAME.key             who may connect in a role

The allow-lists are read at each handshake: a file that is removed keeps its owner out from then on.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from emulator.errors import EndpointError

if TYPE_CHECKING:
    import zmq

Role = Literal["packets", "control", "observe"]
ROLES: tuple[Role, ...] = get_args(Role)
SERVER = "server"
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}", re.ASCII)
REMEDY = "make them with `bentpipe keys`"


def make_pair(directory: Path, name: str) -> Path:
    """Makes the pair NAME in `directory`, which is made too, files of mode 0600; returns the public one.

    Raises EndpointError if it is there already, or the name cannot be a file's.
    """
    import zmq

    if not NAME.fullmatch(name):
        raise EndpointError(f"{name!r}: expected a name of letters, digits, '_', '-' and '.'")
    public, secret = (key.decode() for key in zmq.curve_keypair())
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write(directory / f"{name}.key_secret", {"public-key": public, "secret-key": secret})
        _write(directory / f"{name}.key", {"public-key": public})
    except OSError as error:
        raise EndpointError(f"{directory}: cannot make the keys of {name!r}: {error.strerror or error}") from error
    return directory / f"{name}.key"


def allow(directory: Path, name: str, roles: Iterable[Role], public: Path | None = None) -> None:
    """Puts NAME (its pair in `directory`, or the `public` key file that it sent) on the allow-list of the roles."""
    key, _ = _load(public or directory / f"{name}.key")
    for role in roles:
        place = directory / "allow" / role
        try:
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
            (place / f"{name}.key").unlink(missing_ok=True)
            _write(place / f"{name}.key", {"public-key": key.decode()})
        except OSError as error:
            raise EndpointError(f"{place}: cannot allow {name!r}: {error.strerror or error}") from error


def allowed(directory: Path, public: bytes) -> dict[Role, str]:
    """The roles in which the owner of this public key (Z85) may connect, each with the name it has there."""
    found: dict[Role, str] = {}
    for role in ROLES:
        for path in sorted((directory / "allow" / role).glob("*.key")):
            with contextlib.suppress(EndpointError):
                if _load(path)[0] == public:
                    found[role] = path.stem
    return found


def check_endpoint(endpoint: str, keys: Path | None, server: str = SERVER) -> None:
    """Raises EndpointError unless it is ipc://, or tcp:// with keys: nothing listens to other machines without."""
    if endpoint.startswith("ipc://"):
        return
    if not re.fullmatch(r"tcp://[^/\s]+:(\d{1,5}|\*)", endpoint):
        raise EndpointError(f"{endpoint}: expected ipc://PATH or tcp://ADDRESS:PORT")
    if keys is None:
        raise EndpointError(f"{endpoint}: refused without CURVE keys: {REMEDY}, and name their directory")
    _load(keys / f"{server}.key")


def open_doors(endpoints: Iterable[str], keys: Path | None) -> dict[str, int]:
    """Listens at the tcp:// ones of some endpoints, in the network where we are now; by endpoint a descriptor.

    For a process that will move into a network of its own, out of which nobody else could reach it: `bind` takes them.
    Raises EndpointError.
    """
    import socket as sockets

    doors: dict[str, int] = {}
    for endpoint in endpoints:
        check_endpoint(endpoint, keys)
        if endpoint.startswith("tcp://"):
            host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
            host = host.strip("[]")
            family = sockets.AF_INET6 if ":" in host else sockets.AF_INET
            place = ("" if host == "*" else host, 0 if port == "*" else int(port))
            try:
                with sockets.create_server(place, family=family, backlog=100) as listening:
                    doors[endpoint] = os.dup(listening.fileno())
            except OSError as error:
                raise EndpointError(f"{endpoint}: cannot listen: {error.strerror or error}") from error
    return doors


def bind(socket: zmq.Socket[Any], endpoint: str, doors: Mapping[str, int]) -> None:
    """Binds a socket, by what `open_doors` has opened for it where it has."""
    import zmq

    if endpoint in doors:
        socket.setsockopt(zmq.USE_FD, doors[endpoint])  # it is the socket's from now on
    socket.bind(endpoint)


def offer(
    socket: zmq.Socket[Any],
    endpoint: str,
    *,
    what: str,
    keys: Path | None,
    domain: str,
    doors: Mapping[str, int],
    undo: contextlib.ExitStack,
) -> str:
    """Binds a socket where clients find it, with keys unless by ipc://, whose file is its owner's alone; the endpoint.

    undo: takes the removal of that file. Raises EndpointError: the `what` cannot be made.
    """
    import zmq

    path = Path(endpoint.removeprefix("ipc://")) if endpoint.startswith("ipc://") else None
    if path is None:
        assert keys is not None, "check_endpoint comes first"
        secure_server(socket, keys, domain)
    try:
        bind(socket, endpoint, doors)
        if path is not None:
            undo.callback(path.unlink, missing_ok=True)
            path.chmod(0o600)
    except (OSError, zmq.ZMQError) as error:
        raise EndpointError(f"{path or endpoint}: cannot make the {what}: {error.strerror}") from error
    return socket.getsockopt_string(zmq.LAST_ENDPOINT).rstrip("\0")


def secure_server(socket: zmq.Socket[Any], keys: Path, domain: str) -> None:
    """Makes `socket`, before it is bound, one that only clients with keys reach; `Gate` decides by the domain."""
    public, secret = _load_pair(keys, SERVER)
    socket.curve_publickey, socket.curve_secretkey = public, secret
    socket.curve_server = True
    socket.zap_domain = domain.encode()


def secure_client(socket: zmq.Socket[Any], keys: Path, name: str) -> None:
    """Gives `socket`, before it connects, the keys of client NAME and of the server. Raises EndpointError."""
    public, secret = _load_pair(keys, name)
    socket.curve_publickey, socket.curve_secretkey = public, secret
    socket.curve_serverkey = _load(keys / f"{SERVER}.key")[0]


def client_name(keys: Path) -> str:
    """The one client whose secret key is in the directory. Raises EndpointError if there are several, or none."""
    names = sorted(path.stem for path in keys.glob("*.key_secret") if path.stem != SERVER)
    if len(names) != 1:
        raise EndpointError(f"{keys}: expected the secret key of one client, found {', '.join(names) or 'none'}")
    return names[0]


class Gate:
    """Lets clients connect to the secured sockets of a context by the allow-lists of `keys`; a context manager.

    domains: by the ZAP domain of a socket the roles of which a client must have one. Clients are known by their public
    key in the `User-Id` of their messages.
    """

    def __init__(self, context: zmq.Context[Any], keys: Path, domains: Mapping[str, Iterable[Role]]) -> None:
        from zmq.auth.thread import ThreadAuthenticator

        self._keys = keys
        self._roles = {domain: frozenset(roles) for domain, roles in domains.items()}
        self._authenticator = ThreadAuthenticator(context)

    def callback(self, domain: str, key: bytes) -> bool:
        """Whether the owner of `key` may connect; asked by the authenticator."""
        return not self._roles.get(domain, frozenset()).isdisjoint(allowed(self._keys, key))

    def __enter__(self) -> Gate:
        self._authenticator.start()
        for domain in self._roles:
            self._authenticator.configure_curve_callback(domain, credentials_provider=self)
        return self

    def __exit__(self, *_: object) -> None:
        self._authenticator.stop()


def _write(path: Path, keys: Mapping[str, str]) -> None:
    text = "curve\n" + "".join(f'    {name} = "{key}"\n' for name, key in keys.items())
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(text)


def _load_pair(directory: Path, name: str) -> tuple[bytes, bytes]:
    path = directory / f"{name}.key_secret"
    public, secret = _load(path)
    if secret is None:
        raise EndpointError(f"{path}: expected a secret key in it; {REMEDY}")
    if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise EndpointError(f"{path}: expected a file that only its owner can read: chmod 600 {path}")
    return public, secret


def _load(path: Path) -> tuple[bytes, bytes | None]:
    from zmq.auth import load_certificate
    from zmq.utils import z85

    try:
        public, secret = load_certificate(path)
        for key in (public, secret):
            if key is not None and len(z85.decode(key)) != 32:
                raise ValueError
    except (OSError, ValueError, KeyError, struct.error) as error:
        reason = "no such file" if not path.exists() else "expected CURVE keys (ZPL, Z85) in it"
        raise EndpointError(f"{path}: {reason}; {REMEDY}") from error
    return public, secret
