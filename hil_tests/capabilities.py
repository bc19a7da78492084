"""What a test may need of the machine, and whether this machine has it.

A test says `@pytest.mark.needs("tun", "iperf3")`. Each capability is found out once, by trying it, and a test that
misses one is skipped with a reason that says what is missing and how to get it.
"""

from __future__ import annotations

import functools
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emulator.cli.probe import Probe, probe
from hil_tests import containers

REFERENCE_DATA = "BENTPIPE_REFERENCE_DATA"
NOBODY = 65_534  # the user that owns nothing, on every Linux
BECOME_WITH_TUN = """
mount -t tmpfs -o mode=0755 tmpfs /dev/net && mknod -m 0666 /dev/net/tun c 10 200 &&
exec setpriv --reuid "$0" --regid "$0" --clear-groups -- "$@"
"""  # 10, 200: linux/miscdevice.h

DEBIAN_PACKAGE_OF_PROGRAM = {
    "apache2": "apache2-bin",
    "bird": "bird2",
    "birdc": "bird2",
    "chromium": "chromium",
    "curl": "curl",
    "dhcpcd": "dhcpcd-base",
    "dnsmasq": "dnsmasq-base",
    "ethtool": "ethtool",
    "fping": "fping",
    "gpsd": "gpsd",
    "gpsdecode": "gpsd-clients",
    "gpspipe": "gpsd-clients",
    "ip": "iproute2",
    "iperf3": "iperf3",
    "irtt": "irtt",
    "mtr": "mtr-tiny",
    "pg_ctlcluster": "postgresql",
    "ping": "iputils-ping",
    "rsync": "rsync",
    "rotctl": "libhamlib-utils",
    "rotctld": "libhamlib-utils",
    "sipp": "sip-tester",
    "ss": "iproute2",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "sshd": "openssh-server",
    "tc": "iproute2",
    "tcpdump": "tcpdump",
    "tshark": "tshark",
    "wg": "wireguard-tools",
    "wireguard-go": "wireguard-go",
}


@functools.cache
def missing(capability: str) -> str | None:
    """What this machine lacks of `capability` and how to get it; None if it has it. Raises KeyError: no such one."""
    return CAPABILITIES[capability]()


def reference_data_directory() -> Path | None:
    """The folder that $BENTPIPE_REFERENCE_DATA names, if there is one."""
    path = os.environ.get(REFERENCE_DATA)
    return Path(path) if path and Path(path).is_dir() else None


@dataclass(frozen=True)
class OtherUser:
    """An ordinary user whom the tests may become, and a Python with our packages that he may execute.

    `options`: for subprocess.Popen, with the environment of somebody who has no home.
    """

    uid: int
    python: str
    options: dict[str, Any]

    def with_tun(self, command: Sequence[str], **more: Any) -> subprocess.CompletedProcess[str]:
        """Runs a command as him, who may open /dev/net/tun, as udev has it: here in a mount namespace of his own, for
        a machine without udev keeps it to root.
        """
        mine = {name: value for name, value in self.options.items() if name in ("env", "cwd")} | more
        become = ["unshare", "--mount", "sh", "-c", BECOME_WITH_TUN, str(self.uid), *command]
        return subprocess.run(become, **mine, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)


@functools.cache
def other_user() -> OtherUser | None:
    """User `nobody`, if we are root and he finds a Python; None if not."""
    if _root() is not None:
        return None
    package_folders = [path for path in sys.path if path.endswith("-packages")]
    environment = {
        "PATH": os.environ.get("PATH", "") + ":/usr/bin:/usr/sbin:/bin:/sbin",
        "HOME": "/nonexistent",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *package_folders]),
    }
    options: dict[str, Any] = {"user": NOBODY, "group": NOBODY, "extra_groups": [], "env": environment, "cwd": "/"}
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"  # compiled packages serve one version only
    for python in (sys.executable, shutil.which(name), f"/usr/bin/{name}", f"/usr/local/bin/{name}"):
        try:
            tried = subprocess.run(
                [python or "", "-c", "import emulator, numba, pydantic"], check=False, capture_output=True, **options
            )
        except OSError:
            continue
        if python and tried.returncode == 0:
            return OtherUser(NOBODY, python, options)
    return None


def _other_user() -> str | None:
    if other_user() is not None:
        return None
    return "needs root, and a Python of the same version that user `nobody` may execute, as /usr/bin/python3"


def _root() -> str | None:
    everybody = Path("/proc/self/uid_map").read_text().split() == ["0", "0", "4294967295"]  # not root of a namespace
    return None if os.geteuid() == 0 and everybody else "the tests run as an ordinary user: run them as root"


def _program(name: str) -> str | None:
    if shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin"):
        return None
    return f"program {name} not found: apt-get install {DEBIAN_PACKAGE_OF_PROGRAM[name]}"


def _probed(lacks: Callable[[Probe], str]) -> Callable[[], str | None]:
    return lambda: lacks(probe()) or None


def _compiled() -> str | None:
    interpreted = os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0")
    return "NUMBA_DISABLE_JIT is set, the packet path is interpreted: unset it" if interpreted else None


def _reference_data() -> str | None:
    if reference_data_directory() is not None:
        return None
    return f"set {REFERENCE_DATA} to the folder that holds the reference data"


def _tbf() -> str | None:
    """A queueing discipline that shapes, tried in a namespace."""
    if fault := _program("tc") or probe().namespace_fault:
        return fault
    from emulator.ports.namespace import Namespace

    with Namespace.create() as space:
        command = ["tc", "qdisc", "add", "dev", "lo", "root", "tbf", "rate", "1mbit", "burst", "2k", "latency", "1s"]
        tried = space.run(lambda: subprocess.run(command, capture_output=True, text=True, check=False))
    return f"this kernel has no queueing discipline tbf: {tried.stderr.strip()}" if tried.returncode else None


def _mptcp() -> str | None:
    try:
        socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262).close()  # linux/in.h: IPPROTO_MPTCP
    except OSError as error:
        return f"this kernel opens no socket of MPTCP ({error.strerror}): sysctl net.mptcp.enabled=1, or another kernel"
    return None


CAPABILITIES: dict[str, Callable[[], str | None]] = {
    "root": _root,
    "other-user": _other_user,
    "netns": _probed(lambda found: found.namespace_fault),
    "user-namespaces": _probed(lambda found: found.user_namespace_fault),
    "tun": _probed(lambda found: found.tun_fault),
    "nft": _probed(lambda found: found.nft_fault),
    "bpf": _probed(lambda found: found.tun_fault or found.stamps_fault),
    "uso": _probed(lambda found: found.tun_fault or ("" if found.udp_segmentation else "needs a kernel from 6.2 on")),
    "ipv6": _probed(lambda found: "" if found.ipv6 else "IPv6 is switched off in this kernel"),
    "realtime": _probed(lambda found: found.realtime_fault),
    "tbf": _tbf,
    "compiled": _compiled,
    "mptcp": _mptcp,
    "podman": lambda: _root() or containers.lacking() or None,
    "reference-data": _reference_data,
    **{name: functools.partial(_program, name) for name in DEBIAN_PACKAGE_OF_PROGRAM},
}
