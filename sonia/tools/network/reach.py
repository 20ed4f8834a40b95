"""How far Sonia may reach: the mode of egress, and which addresses are public.

Names are checked before they are looked up, and what they lead to again where it is dialled.
Special addresses: IANA's registries for IPv4 and IPv6 (RFC 6890). An IPv6 address that wraps an
IPv4 one (mapped, 6to4, Teredo, NAT64) is never dialled.
"""

from __future__ import annotations

import ipaddress

from sonia.config import Egress
from sonia.errors import PolicyDenied
from sonia.tools.addresses import PORTS, Address
from sonia.types import Value

Ip = ipaddress.IPv4Address | ipaddress.IPv6Address

_LAN = tuple(
    ipaddress.ip_network(net)
    for net in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")
)
_UNICAST = ipaddress.IPv6Network("2000::/3")
_WRAPPED = tuple(
    ipaddress.ip_network(net) for net in ("2001::/23", "2002::/16", "2001:db8::/32", "3fff::/20")
)
_RELAYS = ipaddress.IPv4Network("192.88.99.0/24")


class EgressDenied(PolicyDenied):
    """The configuration lets nothing go there; `message` says which setting."""


class Reach(Value):
    """A mode, and the hosts of the allow-list: `example.org`, `*.example.org`, `host:8080`."""

    mode: Egress = "open"
    hosts: tuple[str, ...] = ()

    def check(self, address: Address) -> None:
        """Look at the name and port alone. Raises `EgressDenied`."""
        named = any(_names(entry, address) for entry in self.hosts)
        if self.mode == "offline":
            raise _denied(address, "egress is offline")
        if self.mode == "allow-list" and not named:
            raise _denied(address, "egress is allow-list and egress_hosts does not name it")
        if self.mode != "lan" and address.port not in PORTS.values() and not named:
            raise _denied(
                address,
                f"port {address.port} is neither 80 nor 443, and egress_hosts does not name "
                f"{address.host}:{address.port}",
            )

    def admits(self, ip: Ip) -> bool:
        """Whether this very address may be dialled."""
        if self.mode == "lan":
            return any(ip in net for net in _LAN if net.version == ip.version)
        return self.mode != "offline" and public(ip)


def public(ip: Ip) -> bool:
    """Whether an address is somebody's on the internet, and nothing of this house."""
    if isinstance(ip, ipaddress.IPv4Address):
        return ip.is_global and not ip.is_multicast and ip not in _RELAYS
    plain = ip in _UNICAST and not any(ip in net for net in _WRAPPED)
    return plain and ip.is_global and ip.scope_id is None


def _names(entry: str, address: Address) -> bool:
    host, _, port = entry.lower().partition(":")
    if port and port != str(address.port):
        return False
    if not port and address.port not in PORTS.values():
        return False
    if host.startswith("*."):
        return address.host.endswith(host[1:])
    return address.host == host


def _denied(address: Address, why: str) -> EgressDenied:
    return EgressDenied(f"{address.host} is not asked: {why} (services.openclaw).")
