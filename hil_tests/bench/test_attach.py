"""`bentpipe attach`: processes started by others, namespaces, bridges and cards on either side, and off again."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import select
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from emulator.bench import Bench
from emulator.bench.riding import ride_on
from emulator.bench.sides import Side, Station
from emulator.errors import InterfaceError
from emulator.ports import wires
from emulator.ports.namespace import Namespace
from emulator.ports.tap import TapPort
from hil_tests import containers
from hil_tests.bench.field import PATIENCE_S, in_space, receive, run, running
from hil_tests.bench.living import World, finished, new_world, until

pytestmark = [pytest.mark.needs("netns", "tun", "root", "compiled"), pytest.mark.usefixtures("nothing_left")]
FAST = ("link.delay_ms=1", "link.rate_mbps=0")


def seen(space: Namespace) -> str:
    """All that a user sees of a namespace's network."""
    return in_space(
        space, "sh", "-c", "ip -o -d address; ip route show table all; ip -6 route; ip rule; ip neigh"
    ).stdout


def ways(space: Namespace) -> str:
    """Addresses and routes: of a side, which may have learnt neighbours and forwarding meanwhile."""
    return in_space(space, "sh", "-c", "ip -o -d address; ip route; ip -6 route; ip rule; nft list ruleset").stdout


def pings(space: Namespace, address: str) -> bool:
    return in_space(space, "ping", "-c", "1", "-W", "5", address).returncode == 0


@contextlib.contextmanager
def process_elsewhere() -> Iterator[subprocess.Popen[bytes]]:
    """A process that somebody else has started, in a network of its own."""
    command = ["unshare", "--net", "sh", "-c", "ip link set lo up; echo up; exec sleep 1000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield process
        finally:
            process.kill()


def of_process(pid: int) -> Namespace:
    return Namespace(os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC))


def put_on(bench: Bench, at: str, pid: int, **more: str) -> dict[str, str]:
    values = {"at": at, "kind": "namespace", "where": f"/proc/{pid}/ns/net", "target": f"process {pid}", **more}
    attached: dict[str, str] = bench.network.do("attach", **values)
    return attached


@pytest.mark.parametrize("at", ["terminal", "datacenter"])
@pytest.mark.parametrize(
    "access", [(), ("access.nat44=true",), ("access.nat44=false",)], ids=["plain", "nat", "router"]
)
def test_a_process_of_somebody_elses_joins_and_leaves_without_a_trace(at: str, access: tuple[str, ...]) -> None:
    with process_elsewhere() as process, of_process(process.pid) as space, running("fixed", *FAST, *access) as bench:
        sides = bench.terminal, bench.datacenter
        before = [seen(space), *(ways(side.namespace) for side in sides)]
        attached = put_on(bench, at, process.pid)
        other = bench.datacenter if at == "terminal" else bench.terminal
        if at == "terminal" or not access:
            assert pings(space, other.ipv4)
        if at == "datacenter":
            assert pings(bench.terminal.namespace, attached["address"])
        if at == "terminal" and not access:
            assert pings(bench.datacenter.namespace, attached["address"])
        with pytest.raises(InterfaceError, match="attached already"):
            put_on(bench, "terminal", process.pid)
        bench.network.do("detach", name=f"process {process.pid}")
        assert [seen(space), *(ways(side.namespace) for side in sides)] == before
        assert bench.network.do("attachments") == []


def test_ipv6_goes_along_unless_it_is_switched_off_there() -> None:
    """As engines switch it off in their containers."""
    with process_elsewhere() as process, of_process(process.pid) as space, running("fixed", *FAST) as bench:
        put_on(bench, "terminal", process.pid)
        assert pings(space, bench.datacenter.ipv6)
        bench.network.do("detach", name=f"process {process.pid}")
        wires.set_kernel(space, {"ipv6.conf.all.disable_ipv6": 1})
        before = seen(space)
        put_on(bench, "terminal", process.pid)
        assert pings(space, bench.datacenter.ipv4)
        bench.network.do("detach", name=f"process {process.pid}")
        assert seen(space) == before


def test_a_bridge_and_what_hangs_on_it() -> None:
    """The bridge's namespace, a machine on the bridge in another; it takes the gateway that it is told."""
    with Namespace.create() as ours, Namespace.create() as machine, running("fixed", *FAST) as bench:
        wires.with_netlink(ours, "bridge", lambda netlink: netlink.link("add", ifname="br0", kind="bridge", state="up"))
        port, _ = wires.cable(ours, "port0", machine, "eth0", mtu=1500)

        def plug(netlink: object) -> None:
            netlink.link(  # type: ignore[attr-defined]
                "set",
                index=netlink.link_lookup(ifname=port)[0],  # type: ignore[attr-defined]
                master=netlink.link_lookup(ifname="br0")[0],  # type: ignore[attr-defined]
            )

        wires.with_netlink(ours, "plug", plug)
        before = seen(ours)
        attached = bench.network.do("attach", at="terminal", kind="bridge", where=ours.path, target="br0", device="br0")
        wires.add_address(machine, "eth0", ipaddress.IPv4Interface(attached["network"].replace(".0/", ".9/")))
        everywhere = ipaddress.IPv4Network("0.0.0.0/0")
        wires.add_route(machine, everywhere, by="eth0", via=ipaddress.IPv4Address(attached["gateway"]))
        assert pings(machine, bench.datacenter.ipv4)
        bench.network.do("detach", name="br0")
        assert seen(ours).replace("STALE", "") == before.replace("STALE", "")
        with pytest.raises(InterfaceError, match="port0: expected a bridge, got veth"):
            bench.network.do("attach", at="terminal", kind="bridge", where=ours.path, target="port0", device="port0")
        with pytest.raises(InterfaceError, match="br9: expected an interface that exists"):
            bench.network.do("attach", at="terminal", kind="bridge", where=ours.path, target="br9", device="br9")
        with pytest.raises(InterfaceError, match="lo: expected a card of Ethernet's, got another kind"):
            bench.network.do("attach", at="terminal", kind="nic", where=ours.path, target="lo", device="lo")


def test_a_card_and_the_machine_at_its_other_end() -> None:
    with Namespace.create() as ours, Namespace.create() as machine, running("fixed", *FAST) as bench:
        card, _ = wires.cable(ours, "eth1", machine, "eth0", mtu=1500)
        before = in_space(ours, "ip", "-o", "link").stdout
        values = {"kind": "nic", "where": ours.path, "target": "eth1", "device": card, "network": "10.9.8.0/24"}
        bench.network.do("attach", at="datacenter", **values)
        wires.add_address(machine, "eth0", ipaddress.IPv4Interface("10.9.8.7/24"))
        gateway = ipaddress.IPv4Address("10.9.8.1")
        wires.add_route(machine, ipaddress.IPv4Network("198.18.0.0/15"), by="eth0", via=gateway)
        assert pings(machine, bench.terminal.ipv4)
        assert run(bench.terminal, "ping", "-c", "1", "10.9.8.7").returncode == 0
        bench.network.do("detach", name="eth1")
        assert in_space(ours, "ip", "-o", "link").stdout == before


@contextlib.contextmanager
def on_vlan(space: Namespace, card: str, vlan: int, address: str) -> Iterator[Namespace]:
    """A host behind VLAN `vlan` of a switch whose trunk is `card`; its gateway is the first address of its network."""
    with contextlib.ExitStack() as stack:
        host = stack.enter_context(Namespace.create())
        station = Station("host", host, "")
        stack.callback(station.close)
        index = space.run(lambda: socket.if_nametoindex(card))
        ride_on(host, "eth0", space, index, card, vlan, station.popen)
        own = ipaddress.IPv4Interface(address)
        wires.add_address(host, "eth0", own)
        wires.add_route(host, ipaddress.IPv4Network("0.0.0.0/0"), by="eth0", via=own.network[1])
        yield host


def test_many_terminals_on_one_card_by_vlan() -> None:
    """Two benches, a terminal each, on the same card; who is on one VLAN hears nothing of the other."""
    with (
        Namespace.create() as ours, Namespace.create() as switch,
        running("fixed", *FAST) as one, running("fixed", *FAST) as two,
    ):  # fmt: skip
        wires.cable(ours, "eth1", switch, "trunk", mtu=1500)
        before = in_space(ours, "ip", "-o", "link").stdout
        values = {"at": "terminal", "kind": "nic", "where": ours.path, "device": "eth1"}
        for bench, vlan in ((one, 101), (two, 102)):
            wanted = {"target": f"nic eth1 VLAN {vlan}", "vlan": vlan, "network": f"10.1.{vlan}.0/24"}
            bench.network.do("attach", **values, **wanted)
            with pytest.raises(InterfaceError, match="attached already"):
                bench.network.do("attach", **values, **{**wanted, "network": ""})
        with (
            on_vlan(switch, "trunk", 101, "10.1.101.7/24") as here,
            on_vlan(switch, "trunk", 102, "10.1.102.7/24") as there,
        ):
            for bench, host in ((one, here), (two, there)):
                packets = bench.counters().uplink.delivered_packets
                assert pings(host, bench.datacenter.ipv4)
                assert bench.counters().uplink.delivered_packets == packets + 1
            assert not in_space(here, "ping", "-c", "1", "-W", "1", "10.1.102.1").stdout.count("bytes from")
            large = in_space(here, "ping", "-c", "1", "-s", "1472", "-M", "do", "-W", "5", one.datacenter.ipv4)
            assert large.returncode == 0, "a full packet fits"
            transfer(here, one.datacenter, 3_000_000)
        for bench, vlan in ((one, 101), (two, 102)):
            bench.network.do("detach", name=f"nic eth1 VLAN {vlan}")
        assert in_space(ours, "ip", "-o", "link").stdout == before
        for kind, vlan in (("bridge", 5), ("nic", 4095)):
            with pytest.raises(InterfaceError, match="expected 1 to 4094, of a network card"):
                one.network.do("attach", **{**values, "kind": kind, "target": "eth1", "vlan": vlan})


def transfer(host: Namespace, side: Side, size: int) -> None:
    """By TCP, both ends with their offloads: from a host to a side, and back."""
    with side.namespace.run(socket.socket) as server, host.run(socket.socket) as client:
        server.bind((side.ipv4, 0))
        server.listen()
        client.settimeout(PATIENCE_S)
        client.connect(server.getsockname())
        accepted, _ = server.accept()
        accepted.settimeout(PATIENCE_S)
        with accepted:
            for source, sink in ((client, accepted), (accepted, client)):
                sending = threading.Thread(target=source.sendall, args=(bytes(size),))
                sending.start()
                assert len(receive(sink, size)) == size
                sending.join()


def test_a_virtual_machines_tap() -> None:
    """What a hypervisor does: it holds the TAP, and hands its frames to the guest's card, here another TAP."""
    with Namespace.create() as ours, Namespace.create() as guest, running("fixed", *FAST) as bench:
        taps = [TapPort(space, name, mtu=1500, queue_packets=1000) for space, name in ((ours, "tap0"), (guest, "eth0"))]
        stop = threading.Event()

        def shovel() -> None:
            while not stop.is_set():
                ends = [tap.descriptor for tap in taps]
                for ready in select.select(ends, [], [], 0.1)[0]:
                    with contextlib.suppress(BlockingIOError):
                        os.write(ends[ends[0] == ready], os.read(ready, 1 << 17))

        hypervisor = threading.Thread(target=shovel)
        hypervisor.start()
        try:
            before = in_space(ours, "ip", "-o", "link").stdout
            attached = bench.network.do(
                "attach", at="terminal", kind="nic", where=ours.path, target="tap0", device="tap0"
            )
            own = ipaddress.IPv4Interface(attached["network"].replace(".0/", ".9/"))
            wires.add_address(guest, "eth0", own)
            wires.add_route(guest, ipaddress.IPv4Network("0.0.0.0/0"), by="eth0", via=own.network[1])
            assert pings(guest, bench.datacenter.ipv4)
            transfer(guest, bench.datacenter, 300_000)
            bench.network.do("detach", name="tap0")
            assert in_space(ours, "ip", "-o", "link").stdout == before
        finally:
            stop.set()
            hypervisor.join()
            for tap in taps:
                tap.close()


def test_addresses_that_overlap_or_run_out_are_named() -> None:
    with process_elsewhere() as process, of_process(process.pid) as space, running("fixed", *FAST) as bench:
        before = seen(space)
        for wanted, said in {
            "127.0.0.0/24": "expected an IPv4 network such as",
            "198.18.0.0/24": "overlaps 198.18.0.0/30 of ut0 at the terminal's side",
            "10.1.2.3/24": "expected an IPv4 network such as",
            "10.1.2.0/31": "expected an IPv4 network such as",
            "224.1.2.0/24": "expected an IPv4 network such as",
        }.items():
            with pytest.raises(InterfaceError, match=said):
                put_on(bench, "terminal", process.pid, network=wanted)
        wires.with_netlink(
            space, "busy", lambda netlink: netlink.link("add", ifname="busy0", kind="bridge", state="up")
        )
        wires.add_address(space, "busy0", ipaddress.IPv4Interface("198.18.64.1/18"))
        with pytest.raises(InterfaceError, match=r"all its /24 are taken, by 198.18.64.0/18 of busy0 of the target;"):
            put_on(bench, "terminal", process.pid)
        wires.delete_interface(space, "busy0")
        assert seen(space) == before
        assert bench.network.do("attachments") == []


def test_what_has_gone_is_said_to_be_gone_and_what_is_ours_is_refused() -> None:
    with running("fixed", *FAST) as bench:
        with process_elsewhere() as process:
            put_on(bench, "terminal", process.pid)
        process.wait()
        until(lambda: not bench.network.do("attachments")[0]["alive"])
        with pytest.raises(InterfaceError, match="it is gone"):
            put_on(bench, "terminal", process.pid)
        assert bench.network.do("detach", name=f"process {process.pid}")["alive"] is False
        with pytest.raises(InterfaceError, match="expected something that is attached, which is: nothing"):
            bench.network.do("detach", name="at7")
        own = {"kind": "namespace", "where": bench.terminal.namespace.path, "target": "ourselves"}
        with pytest.raises(InterfaceError, match="outside the bench"):
            bench.network.do("attach", at="datacenter", **own)


def test_the_machines_own_network_is_a_side_too_and_kill_leaves_nothing() -> None:
    """Through the command line: a bench that is not isolated, a process at its datacenter's side, and `kill -9`."""
    with new_world() as world, process_elsewhere() as process, of_process(process.pid) as space:
        assert world.space is not None
        before, here = seen(space), seen(world.space)
        bench = world.bentpipe("run", "fixed", "--quiet")
        assert bench.stderr is not None
        assert any("bentpipe enter" in said for said in bench.stderr)
        attached = command(world, "attach", "--pid", str(process.pid), "--at", "datacenter", "--json")
        (item,) = json.loads(attached.stdout)
        assert "198.18.0.0/30" in seen(world.space)
        assert pings(space, "198.18.0.2"), seen(space)
        reached = command(world, "enter", "--", "ping", "-c", "1", item["address"])
        assert reached.returncode == 0, reached.stdout
        assert "198.18.64.0/24" in command(world, "attach", "--list").stdout
        again = command(world, "attach", "--pid", str(process.pid))
        assert (again.returncode, "attached already" in again.stderr) == (73, True)
        bench.kill()
        bench.wait()
        until(lambda: seen(space) == before)
        until(lambda: seen(world.space) == here)  # type: ignore[arg-type]


def command(world: World, *arguments: str) -> subprocess.CompletedProcess[str]:
    return finished(world.bentpipe(*arguments))


def test_wrong_command_lines_say_what_was_expected() -> None:
    with new_world() as world:
        assert "expected one of --pid" in command(world, "attach").stderr
        assert "--vlan is of --nic" in command(world, "attach", "--pid", "1", "--vlan", "5").stderr
        assert command(world, "attach", "--pid", "1").returncode == 69
        missing = command(world, "attach", "--container", "no-such-container")
        assert missing.returncode == 69, "the bench comes first"


def test_a_container_is_found_by_its_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any program called docker that knows how to inspect will do: here one that answers as docker does."""
    from emulator.cli.attach import container_pid
    from emulator.errors import ToolMissingError

    engine = tmp_path / "docker"
    engine.write_text('#!/bin/sh\n[ "$4" = web ] && echo 4711 && exit\necho "Error: No such object: $4" >&2; exit 1\n')
    engine.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert container_pid("web") == 4711
    with pytest.raises(InterfaceError, match="No such object: db"):
        container_pid("db")
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    with pytest.raises(ToolMissingError, match="neither docker nor podman is installed; --pid"):
        container_pid("web")


@pytest.mark.needs("podman")
def test_a_real_container_is_attached_used_and_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine's own, by its name, on either side, without IPv6 as docker has it; one that is removed is gone."""
    from emulator.cli.attach import target

    def inside(*arguments: str) -> str:
        return containers.podman("exec", "web", *arguments)

    with containers.engine(monkeypatch.setenv), running("fixed", "link.delay_ms=10", isolate=True) as bench:
        containers.run("web", "sleep", "1000", options=("--detach", "--sysctl", containers.WITHOUT_IPV6))
        before = inside("ip", "-o", "address"), inside("ip", "route")
        for at, other in (("terminal", bench.datacenter), ("datacenter", bench.terminal)):
            bench.network.do("attach", at=at, **target("container", "web"))
            told = inside("ping", "-c", "2", "-W", "5", other.ipv4)
            assert float(told.rpartition("= ")[2].partition("/")[0]) > 20, "the link's delay, there and back"
            with pytest.raises(InterfaceError, match="container web: attached already"):
                bench.network.do("attach", at=at, **target("container", "web"))
            bench.network.do("detach", name="container web")
            assert (inside("ip", "-o", "address"), inside("ip", "route")) == before
        bench.network.do("attach", at="terminal", **target("container", "web"))
        containers.podman("rm", "--force", "--time", "0", "web")
        until(lambda: not bench.network.do("attachments")[0]["alive"])
        with pytest.raises(InterfaceError, match="container web: expected a running container: Error: "):
            target("container", "web")
