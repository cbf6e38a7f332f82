"""`/media`, `/images` and `/thumbnail`: files for their owners, and for whoever holds a signed address."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar

from django.http import HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from media import links
from media.errors import FileMissing
from media.serving import answer, find

NAME = re.compile(r"[A-Za-z0-9_.-]{1,200}\Z")
View = TypeVar("View", bound=Callable[..., Any])
BYTES = {("200", "*/*"): OpenApiTypes.BINARY, ("206", "*/*"): OpenApiTypes.BINARY}


def described(name: str, about: str) -> Callable[[View], View]:
    """The operation's entry in the OpenAPI schema."""
    parameters = [
        OpenApiParameter(links.EXPIRES, int, description="Of a signed address, beside `signature`."),
        OpenApiParameter(links.SIGNATURE, str, description="Opens the file without any other credential."),
        OpenApiParameter("Range", str, OpenApiParameter.HEADER, description="One range of bytes."),
    ]
    kinds: dict[Any, Any] = {
        **BYTES,
        "304": OpenApiResponse(description="It has not changed."),
        "416": OpenApiResponse(description="The range begins behind the end, or there are several."),
    }
    decorator: Callable[[View], View] = extend_schema(
        operation_id=name, description=about, parameters=parameters, responses=kinds, tags=["media"]
    )
    return decorator


class FileView(APIView):
    """Base: `thumbnail` says which of the two is sent."""

    # To whatever limits callers, where the settings name something that does.
    counts_as_request = True
    http_method_names = ["get", "head", "options"]
    thumbnail = False

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """A signature stands for all credentials; without one the usual rules say who is there."""
        if request.method != "OPTIONS" and not self.is_signed(request):
            super().initial(request, *args, **kwargs)

    def is_signed(self, request: Request) -> bool:
        return links.SIGNATURE in request.query_params or links.EXPIRES in request.query_params

    def send(self, request: Request, name: str) -> HttpResponseBase:
        whose: dict[str, Any] = {}
        if self.is_signed(request):
            query = request.query_params
            links.check(request.path, query.get(links.EXPIRES, ""), query.get(links.SIGNATURE, ""))
            whose = {"owner__is_active": True}
        elif request.user.pk is not None:
            whose = {"owner": request.user}
        if not whose or not NAME.match(name):
            raise FileMissing
        response = answer(request, find(name, **whose), thumbnail=self.thumbnail)
        # A page elsewhere may show what it was given an address of; a session is for our own pages.
        response.headers["Cross-Origin-Resource-Policy"] = "cross-origin" if self.is_signed(request) else "same-origin"
        return response

    def options(self, request: Request, *args: Any, **kwargs: Any) -> Response:  # type: ignore[override]
        return Response(None, status=204, headers={"Allow": "GET, HEAD, OPTIONS"})

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        response = super().finalize_response(request, response, *args, **kwargs)
        response.headers.setdefault("Cache-Control", "no-store")
        return response


class Media(FileView):
    @described("media_file", "A stored file, whole or a range of it.")
    def get(self, request: Request, name: str) -> HttpResponseBase:
        return self.send(request, name)


class Images(FileView):
    @described("image_file", "The same as `/media/{name}`.")
    def get(self, request: Request, name: str) -> HttpResponseBase:
        return self.send(request, name)


class Thumbnail(FileView):
    thumbnail = True

    @described("thumbnail_file", "A picture of at most 400 pixels a side; of other files the file.")
    def get(self, request: Request, name: str) -> HttpResponseBase:
        return self.send(request, name)
