"""The base of the JSON views of every surface. Apart from `drf.py`, which DRF's settings import while DRF loads."""

from __future__ import annotations

from typing import Any, cast

from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from gateway.surfaces.openai.errors import method_not_allowed


class JsonView(APIView):
    """Base of the JSON views: OPTIONS names the methods and nothing else; 405 says which are allowed."""

    def options(self, request: Request, *args: Any, **kwargs: Any) -> Response:  # type: ignore[override]
        return Response(None, status=204, headers={"Allow": ", ".join(self.allowed_methods)})

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        if cast(str, request.method).lower() in self.http_method_names and request.method != "OPTIONS":
            super().initial(request, *args, **kwargs)

    def http_method_not_allowed(self, request: Request, *args: Any, **kwargs: Any) -> Response:  # type: ignore[override]
        raise method_not_allowed(str(request.method), ", ".join(self.allowed_methods))

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        response = super().finalize_response(request, response, *args, **kwargs)
        response.headers.setdefault("Cache-Control", "no-store")
        return response
