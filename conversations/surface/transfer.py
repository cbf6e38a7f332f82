"""Conversations out of here as files, and in from here and elsewhere."""

from __future__ import annotations

import threading
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import IO, Any

from asgiref.sync import sync_to_async
from django.db import connection
from django.http import HttpResponseBase, StreamingHttpResponse
from django.utils import timezone
from django.utils.http import content_disposition_header
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.parsers import BaseParser, MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response

from conversations import export
from conversations.imports import reading, writing
from conversations.surface import schemas
from conversations.surface.base import ConversationView
from conversations.surface.fields import one_of, query_of
from conversations.surface.views import TAGGED
from gateway.errors import BadRequest, Unavailable

FORM = OpenApiParameter(
    "format", str, description="`json` (default; can be imported) or `markdown` (the shown branch)."
)
PIECE = 64 * 1024
# An import takes memory and the writer's lock for a while: one at a time, and nobody waits for long.
_importing = threading.Lock()
IMPORT_WAIT = 10


class Pieces:
    """A file for Django to iterate. Each piece is made in some thread, which lets go of its connection after it."""

    def __init__(self, made: Iterator[bytes]) -> None:
        self._made = made

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while piece := await sync_to_async(self._next, thread_sensitive=False)():
            yield piece

    def _next(self) -> bytes:
        """Empty at the end."""
        waiting = bytearray()
        try:
            while len(waiting) < PIECE and (piece := next(self._made, None)) is not None:
                waiting += piece
            return bytes(waiting)
        finally:
            connection.close()


def sent(owner_id: int, wanted: Sequence[uuid.UUID], form: str, name: str, *, several: bool) -> HttpResponseBase:
    content_type, ending = export.TYPES[form]
    return StreamingHttpResponse(
        Pieces(export.pieces(owner_id, wanted, form, several=several)),
        headers={
            "Content-Type": content_type,
            "Content-Disposition": str(content_disposition_header(True, f"{name}.{ending}")),
            "Content-Security-Policy": "default-src 'none'; sandbox",
            "X-Content-Type-Options": "nosniff",
        },
    )


def form_of(request: Request) -> str:
    asked: dict[str, str] = query_of(request, {"format": one_of(*export.WRITERS)})
    return asked.get("format", "json")


class ExportAll(ConversationView):
    @extend_schema(
        operation_id="export_conversations", tags=TAGGED, parameters=[FORM], responses={200: OpenApiTypes.BINARY}
    )
    def get(self, request: Request) -> HttpResponseBase:
        """All that one keeps, archived and in the bin too, as one file."""
        form, owner_id = form_of(request), self.owner_id(request)
        return sent(owner_id, export.ids_of(owner_id), form, f"conversations-{timezone.now():%Y-%m-%d}", several=True)


class ExportOne(ConversationView):
    @extend_schema(
        operation_id="export_conversation", tags=TAGGED, parameters=[FORM], responses={200: OpenApiTypes.BINARY}
    )
    def get(self, request: Request, conversation_id: str) -> HttpResponseBase:
        """One conversation as a file, named by its title."""
        row = self.row(request, conversation_id)
        name = "".join(letter for letter in row.title if letter.isalnum() or letter in " -_").strip()[:80]
        return sent(row.owner_id, [row.pk], form_of(request), name or "conversation", several=False)


class RawBody(BaseParser):
    """The file is the body."""

    def parse(self, stream: Any, media_type: Any = None, parser_context: Any = None) -> Any:
        return stream.read()


class RawJson(RawBody):
    media_type = "application/json"


class RawZip(RawBody):
    media_type = "application/zip"


class Import(ConversationView):
    parser_classes = [MultiPartParser, RawJson, RawZip]

    @extend_schema(
        operation_id="import_conversations",
        tags=TAGGED,
        request={"multipart/form-data": schemas.ImportFile, "application/json": OpenApiTypes.OBJECT},
        responses={200: schemas.ImportReport},
    )
    def post(self, request: Request) -> Response:
        """Reads exports of this server, ChatGPT, Claude, Open WebUI and g4f, as JSON or in a zip file.

        What was imported before is not doubled: messages that came since are added.
        """
        owner_id = self.owner_id(request)
        query_of(request, {})
        if not _importing.acquire(timeout=IMPORT_WAIT):
            raise Unavailable("Another import is under way. Try again later.", code="import_busy", retry_after=30)
        try:
            with reading.documents(_file(request)) as found:
                report = writing.write(owner_id, found)
        finally:
            _importing.release()
        return Response(report)


def _file(request: Request) -> IO[bytes] | bytes:
    """The one file of a form, or the body. Raises BadRequest."""
    data: Any = request.data
    if isinstance(data, bytes):
        return data
    files = [file for name in request.FILES for file in request.FILES.getlist(name)]
    if len(files) != 1:
        raise BadRequest("Send one file, in a field `file`.", code="missing_required_parameter", param="file")
    found: IO[bytes] = files[0]
    return found
