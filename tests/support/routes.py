"""All routes there are, those of Django and those that are streamed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from django.urls import get_resolver
from django.urls.resolvers import URLPattern, URLResolver


def _walked(found: list[Any], prefix: str = "") -> Iterator[str]:
    for item in found:
        here = prefix + str(item.pattern)
        if isinstance(item, URLResolver):
            yield from _walked(item.url_patterns, here)
        else:
            yield here


def routes() -> list[str]:
    """As they are written, without what begins and ends every expression."""
    from g4fsite.asgi import application

    streamed: list[URLPattern] = application._app.application_mapping["http"].routes  # type: ignore[attr-defined]
    found = [*_walked(get_resolver().url_patterns), *_walked(streamed)]
    assert len(found) > 150
    return [re.sub(r"(/\?)?\\Z\Z", "", route.removeprefix("^")) for route in found]
