"""The one place where http, websocket and lifespan part: `g4fsite.asgi:application`."""

from __future__ import annotations

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "g4fsite.settings")
django_application = get_asgi_application()

from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402 - after Django is set up
from django.urls import re_path  # noqa: E402

from conversations.generation.urls import streamed_urlpatterns as conversations_streamed  # noqa: E402 - after Django is set up
from conversations.websockets import websocket_application  # noqa: E402
from g4fsite.edge import Edge  # noqa: E402
from g4fsite.health import health  # noqa: E402
from g4fsite.runtime import lifespan  # noqa: E402
from gateway.surfaces.anthropic.urls import streamed_urlpatterns as anthropic_urlpatterns  # noqa: E402
from gateway.surfaces.audio.urls import streamed_urlpatterns as audio_urlpatterns  # noqa: E402
from gateway.surfaces.backend.urls import streamed_urlpatterns as backend_streamed  # noqa: E402
from gateway.surfaces.files.urls import streamed_urlpatterns as files_streamed  # noqa: E402
from gateway.surfaces.openai.consumer import chat_completions  # noqa: E402
from gateway.surfaces.openai.urls import streamed_urlpatterns  # noqa: E402
from gateway.surfaces.responses.urls import streamed_urlpatterns as responses_streamed  # noqa: E402

application = Edge(
    ProtocolTypeRouter(
        {
            "http": URLRouter(
                [
                    *streamed_urlpatterns,
                    *anthropic_urlpatterns,
                    *responses_streamed,
                    *audio_urlpatterns,
                    *files_streamed,
                    *backend_streamed,
                    *conversations_streamed,
                    re_path(r"^(?:health|livez|readyz)\Z", health),  # type: ignore[arg-type]
                    re_path(r"", django_application),  # type: ignore[arg-type]
                ]
            ),
            "websocket": websocket_application,
            "lifespan": lifespan,
        }
    ),
    # What nearly everybody asks for: two routers and two expressions less.
    {"/v1/chat/completions": chat_completions},
)
