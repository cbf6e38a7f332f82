"""Media in buckets by the names their owners gave, and the search over all of one's files."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from media import buckets, links, search
from media.errors import FileMissing, MediaError
from media.serving import answer
from media.views import BYTES, FileView

# The name stays when the file is another: clients ask whether it changed.
REVALIDATED = "private, no-cache"


class OwnView(FileView):
    """Of the caller's own things: a signature opens nothing here."""

    def is_signed(self, request: Request) -> bool:
        return False

    def send_own(self, request: Request, bucket: str, name: str) -> HttpResponseBase:
        if request.user.pk is None:
            raise FileMissing
        stored = buckets.media_file(request.user.pk, bucket, name)
        response = answer(request, stored, thumbnail=self.thumbnail)
        response.headers["Cache-Control"] = REVALIDATED
        response.headers["Cross-Origin-Resource-Policy"] = "same-origin"
        return response


class BucketMedia(OwnView):
    @extend_schema(operation_id="bucket_media", responses=BYTES, tags=["files"])
    def get(self, request: Request, bucket: str, name: str) -> HttpResponseBase:
        """A picture, sound or film in a bucket, whole or a range of it."""
        return self.send_own(request, bucket, name)


class BucketThumbnail(OwnView):
    thumbnail = True

    @extend_schema(operation_id="bucket_thumbnail", responses=BYTES, tags=["files"])
    def get(self, request: Request, bucket: str, name: str) -> HttpResponseBase:
        """A picture in a bucket, of at most 400 pixels a side; of other media the file."""
        return self.send_own(request, bucket, name)


class BucketOther(OwnView):
    """What stands neither under `media` nor under `thumbnail`."""

    @extend_schema(exclude=True)
    def get(self, request: Request, bucket: str, kind: str, name: str) -> HttpResponseBase:
        raise MediaError("Invalid file type.")


class Search(OwnView):
    @extend_schema(
        operation_id="search_files",
        tags=["files"],
        parameters=[
            OpenApiParameter("skip", int, description="Which hit: 0 is the newest."),
            OpenApiParameter("random", str, description="`true`: any hit. Anything else is a seed for the choice."),
            OpenApiParameter("min", int, description="How many of the terms must match; all when it is missing."),
            OpenApiParameter("limit", int, description="Hits on a page of JSON, at most 100."),
            OpenApiParameter("after", str, description="`last_id` of the page before."),
        ],
        responses={
            200: OpenApiTypes.OBJECT,
            302: OpenApiResponse(description="To the file, unless Accept asks for application/json."),
        },
    )
    def get(self, request: Request, terms: str) -> HttpResponseBase:
        """One's own files whose names, prompts or types hold the terms, which are joined by `+`."""
        if request.user.pk is None:
            raise FileMissing("Not found.")
        files = search.found(request.user.pk, terms, _number(request, "min", None, 0, search.MAX_TERMS))
        skip = _number(request, "skip", 0, 0, search.MAX_SKIP) or 0
        if "application/json" in request.headers.get("Accept", ""):
            limit = _number(request, "limit", search.MAX_HITS, 1, search.MAX_HITS) or 1
            return Response(search.page(files, request.query_params.get("after", ""), limit, skip))
        hit = search.one(files, skip, request.query_params.get("random", ""))
        return Response(None, status=302, headers={"Location": links.session_path(hit)})


def _number(request: Request, name: str, default: int | None, low: int, high: int) -> int | None:
    """Raises MediaError."""
    text: Any = request.query_params.get(name, "")
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 10 and low <= int(text) <= high):
        raise MediaError(f"'{name}' must be a number from {low} to {high}.", param=name)
    return int(text)
