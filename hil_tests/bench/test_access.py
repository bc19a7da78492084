"""The access network as software on either side meets it: with the kernel's own TCP, UDP and ICMP."""

from __future__ import annotations

import functools
import ipaddress
import json
import socket
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from emulator.bench import Bench
from emulator.errors import InterfaceError
from emulator.ports import wires
from emulator.ports.namespace import Namespace
from emulator.units import parse_utc_ns
from hil_tests.bench.field import PATIENCE_S, connected, in_space, receive, run, running
from hil_tests.bench.living import finished, new_world, until

pytestmark = [pytest.mark.needs("netns", "tun", "root", "compiled", "nft"), pytest.mark.usefixtures("nothing_left")]

FAST = ("link.delay_ms=1", "link.rate_mbps=0")


def datagrams(bench: Bench) -> tuple[socket.socket, socket.socket]:
    """Unconnected UDP sockets at the terminal's side and at the datacenter's."""
    ends = [side.namespace.run(functools.partial(socket.socket, type=socket.SOCK_DGRAM))
            for side in (bench.terminal, bench.datacenter)]  # fmt: skip
    ends[1].bind((bench.datacenter.ipv4, 5000))
    for end in ends:
        end.settimeout(30)
    return ends[0], ends[1]


def test_the_datacenter_sees_the_public_address_and_nobody_gets_in() -> None:
    with running("fixed", *FAST, "access.nat44=true") as bench:
        assert bench.access is not None
        assert bench.terminal.ipv4 == "100.64.0.2"
        client, accepted = connected(bench.terminal, bench.datacenter)
        with client, accepted:
            assert accepted.getpeername()[0] == bench.access.public_ipv4 == "198.19.0.0"
            assert client.getsockname()[0] == "100.64.0.2"
            client.sendall(b"to the datacenter")
            assert accepted.recv(100) == b"to the datacenter"
        knocking = bench.datacenter.namespace.run(functools.partial(socket.socket, type=socket.SOCK_DGRAM))
        with knocking:
            knocking.sendto(b"anybody there?", (bench.access.public_ipv4, 9))
            until(lambda: bench.access and bench.access.state().refused["inbound_refused"])
        six_client, six_accepted = connected(bench.terminal, bench.datacenter, family=socket.AF_INET6)
        with six_client, six_accepted:
            assert six_accepted.getpeername()[0] == bench.terminal.ipv6 == "2001:2:0:8000::1", "IPv6 is not translated"
        assert run(bench.terminal, "ping", "-c", "1", "100.64.0.1").returncode == 0, "the gateway answers"


@pytest.mark.parametrize("strays", ["translate", "drop"])
def test_another_point_of_presence_is_another_address_and_connections_of_before_are_lost(strays: str) -> None:
    with running("fixed", *FAST, "access.nat44=true", f"access.strays='{strays}'") as bench:
        assert bench.access is not None
        client, accepted = connected(bench.terminal, bench.datacenter)
        with client, accepted:
            before = accepted.getpeername()[0]
            state = bench.network.do("new_address")
            assert state["public_ipv4"] == bench.access.public_ipv4 == "198.19.0.1" != before
            client.sendall(b"of before")
            if strays == "translate":  # the datacenter knows no such connection, and says so
                with pytest.raises(ConnectionResetError):
                    client.recv(1)
            else:
                until(lambda: bench.access and bench.access.state().refused["stray_dropped"])
                accepted.setblocking(False)
                with pytest.raises(BlockingIOError):
                    accepted.recv(1)
        client, accepted = connected(bench.terminal, bench.datacenter)
        with client, accepted:
            assert accepted.getpeername()[0] == "198.19.0.1"
        six_client, six_accepted = connected(bench.terminal, bench.datacenter, family=socket.AF_INET6)
        with six_client, six_accepted:
            assert six_accepted.getpeername()[0] == bench.access.terminal_ipv6 == "2001:2:0:8100::1"


@pytest.mark.long
@pytest.mark.needs("sshd", "ssh", "ssh-keygen")
def test_a_shell_session_meets_the_change_of_address(tmp_path: Path) -> None:
    """OpenSSH, both ends: it is lost with the address it began at, says so, and the next one is welcome."""
    for name in ("host", "own"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / name)], check=True)
    keys = ["-o", f"AuthorizedKeysFile={tmp_path}/own.pub", "-o", "StrictModes=no", "-o", "UsePAM=no"]
    known = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"]
    with running("fixed", *FAST, "access.nat44=true") as bench:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where Debian's sshd separates its privileges
        bench.datacenter.popen(
            ["/usr/sbin/sshd", "-D", "-f", "/dev/null", "-h", str(tmp_path / "host"), "-p", "2222", *keys,
             "-o", "PermitRootLogin=yes", "-o", "PidFile=none"], stderr=subprocess.DEVNULL,
        )  # fmt: skip
        ssh = ["ssh", "-F", "none", "-i", str(tmp_path / "own"), "-p", "2222", *known, f"root@{bench.datacenter.ipv4}"]
        until(lambda: run(bench.terminal, *ssh, "true").returncode == 0)
        session = bench.terminal.popen(
            [*ssh, "echo $SSH_CLIENT; cat"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert session.stdout is not None
        assert session.stdin is not None
        assert session.stdout.readline().startswith("198.19.0.0 ")
        session.stdin.write("before\n")
        session.stdin.flush()
        assert session.stdout.readline() == "before\n"
        bench.network.do("new_address")
        out, said = session.communicate("after\n", timeout=PATIENCE_S)
        assert (out, session.returncode) == ("", 255)
        assert "reset by peer" in said or "Broken pipe" in said, "which of the two, is who looks first"
        assert run(bench.terminal, *ssh, "echo $SSH_CLIENT").stdout.startswith("198.19.0.1 ")


def test_a_mapping_that_is_idle_is_forgotten() -> None:
    with running("fixed", *FAST, "access.nat44=true", "access.udp_timeout_s=2") as bench:
        near, far = datagrams(bench)
        with near, far:
            near.sendto(b"here I am", (bench.datacenter.ipv4, 5000))
            _, public = far.recvfrom(100)
            far.sendto(b"in time", public)
            assert near.recv(100) == b"in time"
            idle_until = time.monotonic() + 2.1
            until(lambda: time.monotonic() > idle_until)
            far.sendto(b"too late", public)
            until(lambda: bench.network.do("access")["refused"]["inbound_refused"])
            near.setblocking(False)
            with pytest.raises(BlockingIOError):
                near.recv(100)


@pytest.mark.needs("ipv6")
def test_a_network_behind_the_terminal_lives_in_the_delegated_prefix() -> None:
    """The terminal's own /64 is the first; here the last of the 256 is given to a host behind it."""
    with running("fixed", *FAST, "access.nat44=true", "access.inbound=true") as bench, Namespace.create() as host:
        assert bench.access is not None
        prefix = ipaddress.IPv6Network(bench.access.state().prefix_ipv6)
        assert prefix.prefixlen == 56
        *_, last = prefix.subnets(new_prefix=64)
        near, _ = wires.cable(bench.terminal.namespace, "lan0", host, "eth0", mtu=1500)
        wires.set_kernel(bench.terminal.namespace, {"ipv6.conf.all.forwarding": 1})
        wires.add_address(bench.terminal.namespace, near, ipaddress.IPv6Interface((int(last[1]), 64)))
        wires.add_address(host, "eth0", ipaddress.IPv6Interface((int(last[2]), 64)))
        wires.add_route(host, ipaddress.IPv6Network("::/0"), by="eth0", via=last[1])
        reaches = functools.partial(run, bench.datacenter, "ping", "-c", "1", "-W", "1", str(last[2]))
        assert reaches().returncode == 0
        assert in_space(host, "ping", "-c", "1", "-W", "5", bench.datacenter.ipv6).returncode == 0
        bench.network.do("new_address")
        assert reaches().returncode != 0, "the prefix of before leads nowhere"


@pytest.mark.long
@pytest.mark.needs("ipv6", "dhcpcd")
def test_a_dhcpv6_client_is_delegated_the_prefix_and_follows_to_another(tmp_path: Path) -> None:
    """dhcpcd at the terminal gives lan0 the second /64; there is a host behind it."""
    (tmp_path / "conf").write_text("duid\nipv6only\nnoipv6rs\nscript /bin/true\ninterface ut0\nia_pd 1 lan0/1/64\n")
    folders = "mkdir -p /var/lib/dhcpcd; mount -t tmpfs none /var/lib/dhcpcd; mount -t tmpfs none /run"  # its own alone
    client = ["unshare", "--mount", "sh", "-c", f"{folders}; exec dhcpcd -6 -B -f {tmp_path}/conf ut0"]
    keys = ("access.nat44=true", "access.inbound=true", "access.dhcpv6_lifetime_s=4")
    with running("fixed", *FAST, *keys) as bench, Namespace.create() as host:
        wires.cable(bench.terminal.namespace, "lan0", host, "eth0", mtu=1500)
        wires.set_kernel(bench.terminal.namespace, {"ipv6.conf.all.forwarding": 1})
        look = functools.partial(run, bench.terminal, "ip", "-6", "-o", "address", "show", "dev", "lan0")
        bench.terminal.popen(client, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for number in (0, 1):
            inside = ipaddress.IPv6Network(f"2001:2:0:8{number}01::/64")
            until(lambda: str(inside[1]) in (told := look().stdout) and "tentative" not in told)  # noqa: B023
            wires.add_address(host, "eth0", ipaddress.IPv6Interface((int(inside[2]), 64)))
            wires.add_route(host, ipaddress.IPv6Network("::/0"), by="eth0", via=inside[1])
            assert run(bench.datacenter, "ping", "-c", "1", "-W", "5", str(inside[2])).returncode == 0
            if number == 0:
                bench.network.do("new_address")
        assert "2001:2:0:8001::" not in look().stdout, "what leads nowhere is taken away"


def test_without_translation_the_public_address_is_the_terminals_own() -> None:
    with running("fixed", *FAST, "access.nat44=false", "access.inbound=true") as bench:
        assert bench.access is not None
        assert bench.terminal.ipv4 == bench.access.public_ipv4
        client, accepted = connected(bench.datacenter, bench.terminal)
        client.close()
        accepted.close()
        bench.access.change_point_of_presence()
        addresses = json.loads(run(bench.terminal, "ip", "-4", "-json", "address", "show", "ut0").stdout)
        assert [address["local"] for address in addresses[0]["addr_info"]] == ["198.19.0.1"]
        client, accepted = connected(bench.terminal, bench.datacenter)
        with client, accepted:
            assert accepted.getpeername()[0] == "198.19.0.1"


def test_points_of_presence_by_script() -> None:
    with running("fixed", *FAST, "access.new_address_at_s=[0.0, 0.05]") as bench:
        until(lambda: bench.access and bench.access.public_ipv4 == "198.19.0.2")


@pytest.mark.needs("ipv6")
def test_the_router_says_nothing_of_its_own_on_the_link() -> None:
    """It has joined no group of IPv6's routers there, of which it would report."""
    with running("fixed", *FAST, "access.nat44=true", "access.dhcpv6_lifetime_s=600") as bench:
        assert bench.access is not None
        assert run(bench.terminal, "ping", "-c", "1", bench.datacenter.ipv4).returncode == 0
        assert [way.offered_packets for way in (bench.counters().uplink, bench.counters().downlink)] == [1, 1]
        for name, joined in (("sat0", False), ("net0", True)):
            groups = in_space(bench.access.namespace, "ip", "-6", "maddress", "show", "dev", name).stdout
            assert ("ff02::2\n" in groups.replace(" users", "\n")) is joined
            assert "MULTICAST" in in_space(bench.access.namespace, "ip", "link", "show", name).stdout


def test_another_gateway_is_another_point_of_presence() -> None:
    start_ns = parse_utc_ns("2025-05-29T23:20:50Z")
    wanted = ("access.nat44=true", "access.new_address='gateway'")
    with running("starlink_2025", *wanted, start_utc_ns=start_ns) as bench:
        assert bench.access is not None
        before = bench.state().gateway
        assert before
        assert bench.access.public_ipv4 == "198.19.0.0"
        other = next(gateway.name for gateway in bench.scenario.gateways if gateway.name != before)
        bench.operator.pin(None, other, bench.operator.moment("now"), "test")
        until(lambda: bench.access and bench.access.public_ipv4 == "198.19.0.1")
        assert bench.state().gateway == other


def test_one_connection_too_many_is_dropped_and_counted() -> None:
    with running("fixed", *FAST, "access.max_mappings=3") as bench:
        near, far = datagrams(bench)
        with near, far:
            for port in range(5):
                near.sendto(bytes([port]), (bench.datacenter.ipv4, 5000 + port))
            data, public = far.recvfrom(100)
            assert data == b"\0"
            far.sendto(b"answer", public)
            assert near.recv(100) == b"answer"
            near.sendto(b"again", (bench.datacenter.ipv4, 5000))
            assert far.recv(100) == b"again", "a connection that is known goes on"
            state = bench.network.do("access")
        assert state["refused"]["mappings_full"] == 2
        assert state["mappings"] == 3


def test_a_public_address_without_a_free_port_drops_and_counts() -> None:
    """The kernel translates a port below 512 to another such (RFC 4787, REQ-3): so few are soon taken."""
    taken = range(1, 512)

    def send(address: str, ports: Iterable[int]) -> None:
        for port in ports:
            with socket.socket(type=socket.SOCK_DGRAM) as end:
                end.bind((address, port))
                end.sendto(b"x", (bench.datacenter.ipv4, 5000))

    with running("fixed", *FAST, "access.nat44=true") as bench:
        near, far = datagrams(bench)
        space, own = bench.terminal.namespace, bench.terminal.port.name
        wires.add_address(space, own, ipaddress.IPv4Interface("100.64.0.3/10"))  # another host behind the terminal
        with near, far:
            for some in (taken[first : first + 73] for first in range(0, 511, 73)):  # a socket holds as many
                space.run(functools.partial(send, "100.64.0.2", some))
                assert [far.recvfrom(10)[1] for _ in some] == [("198.19.0.0", port) for port in some]
            space.run(lambda: send("100.64.0.3", (1, 2, 3, 6000)))
            assert far.recvfrom(10)[1] == ("198.19.0.0", 6000)
        state = bench.network.do("access")
        assert (state["mappings"], state["refused"]["table_full"]) == (512, 3)


def test_blocked_ports_and_bleached_code_points() -> None:
    with running("fixed", *FAST, "access.blocked_ports=['25', '135-139']", "access.dscp='bleach'") as bench:
        near, far = datagrams(bench)
        with near, far:
            far.setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)
            near.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, 46 << 2 | 2)
            near.sendto(b"blocked", (bench.datacenter.ipv4, 137))
            near.sendto(b"free", (bench.datacenter.ipv4, 5000))
            data, told, _, _ = far.recvmsg(100, 100)
        assert (data, told[0][2][0]) == (b"free", 2), "the congestion mark stays"
        assert bench.network.do("access")["refused"]["port_blocked"] == 1


def path_mtu(end: socket.socket) -> int:
    return end.getsockopt(socket.IPPROTO_IP, 14)  # linux/in.h: IP_MTU


def test_what_is_too_large_is_answered_by_icmp() -> None:
    with running("fixed", *FAST, "access.mtu=1400") as bench:
        client, accepted = connected(bench.terminal, bench.datacenter)
        with client, accepted:
            assert client.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG) > 1400
            for sender, receiver in ((client, accepted), (accepted, client)):
                sender.sendall(bytes(100_000))
                left = 100_000
                while left:
                    left -= len(receiver.recv(left))
            assert path_mtu(client) == 1400
        for address in (bench.datacenter.ipv4, bench.datacenter.ipv6):
            pinged = run(bench.terminal, "ping", "-c", "1", "-M", "do", "-s", "1440", address)
            assert "mtu = 1400" in pinged.stdout or "mtu=1400" in pinged.stdout


def test_a_black_hole_swallows_what_is_too_large_unless_the_mss_is_clamped() -> None:
    hole = ("access.mtu=1400", "access.path_mtu='black_hole'")
    with running("fixed", *FAST, *hole) as bench:
        client, accepted = connected(bench.terminal, bench.datacenter)
        with client, accepted:
            client.sendall(bytes(5000))
            until(lambda: bench.network.do("access")["refused"]["too_large_hidden"])
            accepted.setblocking(False)
            with pytest.raises(BlockingIOError):
                accepted.recv(1)
    with running("fixed", *FAST, *hole, "access.mss_clamp=true") as bench:
        client, accepted = connected(bench.terminal, bench.datacenter)
        with client, accepted:
            client.sendall(bytes(5000))
            assert receive(accepted, 5000) == bytes(5000)
        assert bench.network.do("access")["refused"]["too_large_hidden"] == 0


def test_addresses_that_are_taken_are_refused_and_nothing_is_left() -> None:
    machine = Namespace.create()

    def begin() -> None:
        wires.with_netlink(machine, "a bridge", lambda netlink: netlink.link("add", ifname="br0", kind="bridge"))
        wires.with_netlink(machine, "up", lambda n: n.link("set", index=n.link_lookup(ifname="br0")[0], state="up"))
        wires.add_address(machine, "br0", ipaddress.IPv4Interface("198.19.0.5/20"))
        with running("fixed", *FAST, "access.nat44=true", isolate=False):
            pass

    with machine:
        with pytest.raises(InterfaceError, match=r"access.public_network: 198.19.0.0/28 overlaps 198.19.0.0/20 of br0"):
            machine.run(begin)
        assert wires.interfaces(machine) == {"lo", "br0"}


@pytest.mark.parametrize("ipv6_off", [0, 1], ids=["dual", "ipv4"])
def test_the_machines_own_network_is_as_it_was(ipv6_off: int) -> None:
    """Not isolated: the datacenter's side is where the bench is started. Some machines have IPv6 switched off."""
    with Namespace.create() as machine:
        wires.set_kernel(machine, {"ipv6.conf.all.disable_ipv6": ipv6_off})

        def look() -> str:
            commands = (
                "ip -o link; ip route; ip -6 route; nft list ruleset; ss -Hltn; sysctl -a 2>/dev/null | grep forward"
            )
            return subprocess.run(["sh", "-c", commands], capture_output=True, text=True, check=True).stdout

        def begin() -> str:
            with running("fixed", *FAST, "access.nat44=true", "pep.buffer_bytes=1000000", isolate=False) as bench:
                assert run(bench.terminal, "ping", "-c", "1", bench.datacenter.ipv4).returncode == 0
                assert [side.ipv6 == "" for side in (bench.terminal, bench.datacenter)] == [bool(ipv6_off)] * 2
                return look()

        before = machine.run(look)
        assert "198.19.0.0/28 via 198.18.0.2" in machine.run(begin)
        assert machine.run(look) == before


def test_kill_leaves_nothing_of_router_and_proxy() -> None:
    """The machine's own network as the datacenter's side; then `kill -9`."""
    with new_world() as world:
        bench = world.bentpipe("run", "fixed", "--quiet", "--set", "pep.initial_window_packets=50")
        assert bench.stderr is not None
        assert any("bentpipe enter" in said for said in bench.stderr)
        assert world.space is None or "bp0" in world.interfaces()
        bench.kill()
        bench.wait()
        until(lambda: world.interfaces() == [])
        assert finished(world.bentpipe("clean")).returncode == 0
        assert world.leftovers() == []


def test_rules_are_text_that_nft_takes_whatever_is_asked_for() -> None:
    from emulator.ports.access import ruleset, translation
    from emulator.ports.nft import apply_rules
    from emulator.scenario.access import Access

    for nat44 in (False, True):
        for inbound in (False, True):
            access = Access(nat44=nat44, inbound=inbound, max_mappings=5, blocked_ports=("25", "1-9"), mss_clamp=True,
                            dscp="bleach", path_mtu="black_hole", strays="drop", dhcpv6_lifetime_s=60)  # fmt: skip
            with Namespace.create() as space:
                apply_rules(space, ruleset(access, access.public_network))
                if nat44:
                    apply_rules(space, translation(access.public_network[3]))
                assert ("translate" in in_space(space, "nft", "list", "ruleset").stdout) == nat44


def test_no_nft_is_said_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    from emulator.errors import ToolMissingError

    monkeypatch.setattr("emulator.ports.nft.shutil.which", lambda *_, **__: None)
    with (
        pytest.raises(ToolMissingError, match="apt-get install nftables"),
        running("fixed", *FAST, "access.nat44=true"),
    ):
        pass
