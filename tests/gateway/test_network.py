"""Which spellings of an address count as public, and which base URLs a provider may have."""

from __future__ import annotations

import pytest
from django.core.exceptions import ValidationError

from gateway.network import check_base_url, check_proxy_url, is_loopback
from media.addresses import is_public

PUBLIC = ["1.1.1.1", "8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8"]
PRIVATE = [
    "127.0.0.1",
    "127.1.2.3",
    "0.0.0.0",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "192.0.2.1",
    "198.18.0.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "fe80::1",
    "fe80::1%eth0",
    "fc00::1",
    "ff02::1",
    "::ffff:127.0.0.1",
    "::ffff:a9fe:a9fe",
    "2002:7f00:1::",
    "64:ff9b::7f00:1",
    "2001:0:0:0:0:0:80ff:fffe",
    "2001:db8::1",
    "not an address",
]


@pytest.mark.parametrize("address", PUBLIC)
def test_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize("address", PRIVATE)
def test_private(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "url", ["https://api.openai.com/v1", "https://8.8.8.8:8443/v1", "https://xn--bcher-kva.example/"]
)
def test_public_base_urls(url: str) -> None:
    check_base_url(url, allow_private=False)


@pytest.mark.parametrize("host", ["127.0.0.1:11434", "localhost:1234", "[::1]:8000", "10.0.0.8", "models.localhost"])
def test_private_base_urls_need_the_flag(host: str) -> None:
    check_base_url(f"http://{host}/v1", allow_private=True)
    with pytest.raises(ValidationError):
        check_base_url(f"https://{host}/v1", allow_private=False)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "ftp://example.com/",
        "file:///etc/passwd",
        "https://",
        "https://user:pass@example.com/v1",
        "https://example.com/v1?key=1",
        "https://example.com/v1#x",
        "https://example.com\\@127.0.0.1/",
        "https://exa mple.com/",
        "https://example.com/\n",
        "https://example.com:99999/",
        "https://2130706433/",
        "https://0x7f.1/",
        "https://0177.0.0.1/",
        "https://127.1/",
        "http://example.com/v1",
        "https://[::1/",
    ],
)
def test_base_urls_that_are_refused(url: str) -> None:
    with pytest.raises(ValidationError) as caught:
        check_base_url(url, allow_private=False)
    assert "base_url" in caught.value.message_dict


def test_a_proxy_is_a_web_address() -> None:
    check_proxy_url("http://proxy.internal:3128")
    with pytest.raises(ValidationError):
        check_proxy_url("socks5://proxy:1080")


def test_loopback() -> None:
    assert is_loopback("127.0.0.5")
    assert is_loopback("::1")
    assert is_loopback("::ffff:127.0.0.1")
    assert is_loopback("localhost")
    assert not is_loopback("0.0.0.0")
    assert not is_loopback("gateway.example.com")
