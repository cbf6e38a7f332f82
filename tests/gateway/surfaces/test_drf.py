"""DRF's own errors in our envelope, and strict JSON."""

from __future__ import annotations

import io
from typing import Any

import pytest
from django.core.exceptions import PermissionDenied
from django.http import Http404
from rest_framework import exceptions
from rest_framework.test import APIRequestFactory

from gateway.errors import BadRequest, UpstreamLimited
from gateway.surfaces.drf import JsonAlways, OrjsonParser, OrjsonRenderer, as_gateway_error, envelope

REQUEST: Any = APIRequestFactory().get("/v1/x")


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (UpstreamLimited("x"), 429, "rate_limit_exceeded"),
        (exceptions.NotAuthenticated(), 401, "invalid_api_key"),
        (exceptions.AuthenticationFailed(), 401, "invalid_api_key"),
        (exceptions.PermissionDenied("CSRF Failed: no token"), 403, "csrf_failed"),
        (PermissionDenied(), 403, "permission_denied"),
        (exceptions.MethodNotAllowed("GET"), 405, "method_not_supported"),
        (exceptions.NotFound(), 404, "unknown_url"),
        (Http404(), 404, "unknown_url"),
        (exceptions.UnsupportedMediaType("x"), 415, "unsupported_media_type"),
        (exceptions.Throttled(7), 429, "rate_limit_exceeded"),
        (exceptions.ValidationError("odd"), 400, "invalid_value"),
    ],
)
def test_every_error_has_its_answer(error: Exception, status: int, code: str) -> None:
    found = as_gateway_error(error, REQUEST)
    assert found is not None
    assert (found.status, found.code) == (status, code)
    response = envelope(error, {"request": REQUEST})
    assert response is not None
    assert response.status_code == status
    assert set(response.data["error"]) == {"message", "type", "param", "code"}


def test_waiting_times_become_headers() -> None:
    response = envelope(exceptions.Throttled(7), {"request": REQUEST})
    assert response is not None
    assert (response["Retry-After"], response["Retry-After-Ms"]) == ("7", "7000")


def test_a_bug_is_not_hidden() -> None:
    assert envelope(RuntimeError("x"), {"request": REQUEST}) is None


def test_json_in_and_out() -> None:
    assert OrjsonParser().parse(io.BytesIO(b'{"a": 1}')) == {"a": 1}
    for bad in (b"{", b'{"a": NaN}', b'"\xff"'):
        with pytest.raises(BadRequest):
            OrjsonParser().parse(io.BytesIO(bad))
    assert OrjsonRenderer().render({"a": 1}) == b'{"a":1}'
    assert OrjsonRenderer().render(None) == b""


def test_accept_is_not_asked() -> None:
    negotiation = JsonAlways()
    renderer = OrjsonRenderer()
    assert negotiation.select_renderer(REQUEST, [renderer])[0] is renderer
    parser = OrjsonParser()
    for kind, expected in (("application/json; charset=utf-8", parser), ("text/plain", None), ("", parser)):
        request: Any = APIRequestFactory().generic("POST", "/", b"{}", content_type=kind)
        assert negotiation.select_parser(request, [parser]) is expected
