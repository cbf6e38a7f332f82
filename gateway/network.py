"""Which addresses a provider may live at; checked when it is saved and again when it is used."""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from urllib.parse import SplitResult, urlsplit

from django.core.exceptions import ValidationError

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


def _split(url: str, schemes: tuple[str, ...], what: str) -> SplitResult:
    if not url:
        raise ValidationError(f"{what} is required.")
    if any(ord(letter) <= 32 or ord(letter) == 127 for letter in url) or "\\" in url:
        raise ValidationError(f"{what} holds spaces, control characters or backslashes.")
    try:
        parts = urlsplit(url)
        port_ok = parts.port is None or parts.port > 0
    except ValueError:
        raise ValidationError(f"{what} is not a URL.") from None
    if parts.scheme not in schemes or not parts.hostname or not port_ok:
        raise ValidationError(f"{what} must look like {schemes[0]}://host/path.")
    return parts


def check_base_url(url: str, *, allow_private: bool) -> None:
    """Raises ValidationError keyed by `base_url`."""
    try:
        parts = _split(url, ("https", "http"), "The base URL")
        if parts.username or parts.password:
            raise ValidationError("Credentials belong to the provider's credentials, not into the URL.")
        if parts.query or parts.fragment:
            raise ValidationError("The base URL has no query; use the query field.")
        host = str(parts.hostname).rstrip(".").lower()
        address = literal_address(host)
        private = host == "localhost" or host.endswith(".localhost") or (address is not None and not is_public(address))
        # Digits in other spellings (0x7f.1, 2130706433) are read as addresses by some resolvers.
        odd = address is None and all(part.isdigit() or part.startswith("0x") for part in host.split(".") if part)
        if odd:
            raise ValidationError("Write addresses in the usual form.")
        if private and not allow_private:
            raise ValidationError("This is a private address. Tick “private addresses allowed” if that is meant.")
        if parts.scheme == "http" and not allow_private:
            raise ValidationError("Plain http sends the credential unprotected. Use https, or allow private addresses.")
    except ValidationError as error:
        raise ValidationError({"base_url": error.messages}) from None


def check_proxy_url(url: str) -> None:
    """Raises ValidationError keyed by `proxy`."""
    try:
        _split(url, ("http", "https"), "The proxy")
    except ValidationError as error:
        raise ValidationError({"proxy": error.messages}) from None


def is_loopback(text: str) -> bool:
    try:
        return unwrapped(ipaddress.ip_address(text)).is_loopback
    except ValueError:
        return text == "localhost"
