"""Which addresses lead to the world outside, whatever way they are spelled."""

from __future__ import annotations

import ipaddress
from functools import lru_cache

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# Ranges that Python's `is_global` lets through but that lead back inside: 6to4 and NAT64 wrap IPv4.
SIX_TO_FOUR = ipaddress.ip_network("2002::/16")
# Ranges that some Python versions still call global: protocol assignments, site-local, documentation.
NOT_PUBLIC = [ipaddress.ip_network(text) for text in ("192.0.0.0/24", "fec0::/10", "3fff::/20")]
NAT64 = ipaddress.ip_network("64:ff9b::/96")


def unwrapped(address: Address) -> Address:
    """The IPv4 address inside a mapped, 6to4, NAT64 or Teredo one."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address.ipv4_mapped:
        return address.ipv4_mapped
    if address in SIX_TO_FOUR and address.sixtofour:
        return address.sixtofour
    if address in NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    if address.teredo:
        return address.teredo[1]
    return address


@lru_cache(maxsize=1024)
def is_public(text: str) -> bool:
    """True for a global unicast address, whatever way it is spelled."""
    try:
        address = unwrapped(ipaddress.ip_address(text.split("%", 1)[0]))
    except ValueError:
        return False
    inside = any(address in network for network in NOT_PUBLIC if network.version == address.version)
    return address.is_global and not address.is_multicast and not address.is_reserved and not inside


@lru_cache(maxsize=1024)
def literal_address(host: str) -> str | None:
    """`host` if it is an IP address in one of the usual spellings, else None."""
    try:
        return str(ipaddress.ip_address(host.strip("[]").split("%", 1)[0]))
    except ValueError:
        return None


def is_odd_address(host: str) -> bool:
    """Whether some resolvers would read `host` as an address: 0x7f.1, 2130706433, 0177.0.0.1."""
    parts = [part for part in host.split(".") if part]
    return literal_address(host) is None and all(part.isdigit() or part.startswith("0x") for part in parts)
