"""Which addresses a provider may live at; checked when it is saved and again when it is used."""

from __future__ import annotations

import ipaddress
from urllib.parse import SplitResult, urlsplit

from django.core.exceptions import ValidationError

from media.addresses import is_odd_address, is_public, literal_address, unwrapped


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
        if is_odd_address(host):
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
