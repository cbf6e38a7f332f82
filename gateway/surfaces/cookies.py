"""`upload_cookies` of both surfaces: staff hand over what a browser exported, providers behind cookies are sent it."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

from django.http import HttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.parsers import MultiPartParser
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.response import Response

from gateway.authentication import IsCaller, Principal
from gateway.cookie_store import keep
from gateway.cookies import SUFFIXES, BadCookies
from gateway.errors import BadRequest, NotAllowed
from gateway.surfaces.views import JsonView

MAX_FILES = 20
MAX_NAME = 255


class IsStaff(BasePermission):
    """Cookies are log-ins of the operator's: no ordinary key may change them."""

    def has_permission(self, request: Request, view: Any) -> bool:
        assert isinstance(request.auth, Principal), "IsCaller comes first"
        if not request.auth.is_staff:
            raise NotAllowed("Only staff may upload cookies.", code="permission_denied")
        return True


class CookieFiles(serializers.Serializer):  # type: ignore[type-arg]
    files = serializers.ListField(child=serializers.FileField(), help_text="`.json` or `.har`; others are passed over.")


class CookieFile(serializers.Serializer):  # type: ignore[type-arg]
    file = serializers.FileField(help_text="`.json` or `.har`.")


class KeptFile(serializers.Serializer):  # type: ignore[type-arg]
    filename = serializers.CharField()


def _base_name(upload: Any) -> str:
    """Without folders and control characters; empty for none."""
    name = PurePosixPath(str(upload.name or "").replace("\\", "/")).name
    return "".join(letter for letter in name if letter.isprintable())[:MAX_NAME]


def _is_readable(name: str) -> bool:
    return name.lower().endswith(SUFFIXES)


def _keep(uploads: list[Any]) -> None:
    """Raises BadRequest."""
    try:
        keep((_base_name(upload), upload.read()) for upload in uploads)
    except BadCookies as error:
        raise BadRequest(str(error), code="invalid_cookies", param="files") from None


class CookieView(JsonView):
    permission_classes = [IsCaller, IsStaff]
    parser_classes = [MultiPartParser]

    def _uploads(self, request: Request, field: str) -> list[Any]:
        uploads = request.FILES.getlist(field)
        if len(uploads) > MAX_FILES:
            raise BadRequest(f"At most {MAX_FILES} files at once.", param=field)
        return list(uploads)


class UploadCookies(CookieView):
    """Reads cookie files and keeps, encrypted, what is for providers that are authenticated by cookies."""

    @extend_schema(
        operation_id="uploadCookies",
        tags=["cookies"],
        request={"multipart/form-data": CookieFiles},
        responses={200: KeptFile(many=True)},
    )
    def post(self, request: Request) -> Response:
        uploads = self._uploads(request, "files")
        if not uploads:
            raise BadRequest("Send cookie files as `files`.", code="missing_required_parameter", param="files")
        readable = [upload for upload in uploads if _is_readable(_base_name(upload))]
        _keep(readable)
        return Response([{"filename": _base_name(upload)} for upload in readable])


class UploadCookieFile(CookieView):
    """The same for one file, answered in words."""

    @extend_schema(
        operation_id="uploadCookieFile",
        tags=["cookies"],
        request={"multipart/form-data": CookieFile},
        responses={(200, "text/plain"): OpenApiResponse(OpenApiTypes.STR, description="`File saved`")},
    )
    def post(self, request: Request) -> HttpResponse:
        uploads = self._uploads(request, "file")
        name = _base_name(uploads[0]) if uploads else ""
        if not name:
            return _said("No selected file", 400)
        if not _is_readable(name):
            return _said("Not supported file", 400)
        _keep(uploads[:1])
        return _said("File saved", 200)


def _said(text: str, status: int) -> HttpResponse:
    return HttpResponse(text, status=status, content_type="text/plain; charset=utf-8")
