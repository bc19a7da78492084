"""The TAP port: as the TUN port, one layer below. ARP, neighbour discovery and VLAN tags cross the link as they are."""

from __future__ import annotations

from emulator.ports.tun import IFF_TAP, TunPort


class TapPort(TunPort):
    """A TAP device in a network namespace: frames come and go with their Ethernet header, behind virtio_net_hdr."""

    layer = IFF_TAP

    @property
    def mac(self) -> bytes:
        """The device's Ethernet address."""

        def look() -> bytes:
            from pyroute2 import IPRoute

            with IPRoute() as netlink:
                return bytes.fromhex(netlink.link("get", ifname=self.name)[0].get_attr("IFLA_ADDRESS").replace(":", ""))

        return self.namespace.run(look)
