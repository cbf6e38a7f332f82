"""The OpenAPI schema: one security rule for all, and the streamed routes, which DRF's generator cannot see."""

from __future__ import annotations

from typing import Any

from drf_spectacular.openapi import AutoSchema

from conversations.generation import openapi as generation
from gateway.surfaces.anthropic import openapi as anthropic
from gateway.surfaces.audio import openapi as audio
from gateway.surfaces.backend import openapi as backend
from gateway.surfaces.files import openapi as files
from gateway.surfaces.openai import openapi as openai
from gateway.surfaces.openai import picture_openapi as pictures
from gateway.surfaces.responses import openapi as responses

STREAMED = (openai, pictures, anthropic, responses, audio, files, backend, generation)


class Schema(AutoSchema):
    def get_auth(self) -> list[dict[str, Any]]:
        """Nothing: every operation takes the same credentials, which `add_streamed_routes` writes."""
        return []


def add_streamed_routes(result: dict[str, Any], generator: Any, request: Any, public: bool) -> dict[str, Any]:
    """A drf-spectacular post-processing hook."""
    # A slash at the end is forgiven, not documented.
    result["paths"] = {path.rstrip("/"): item for path, item in result["paths"].items()}
    components = result.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for surface in STREAMED:
        result["paths"] |= surface.PATHS
        schemas.update(surface.COMPONENTS)
    components["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer"},
        "g4f-api-key": {"type": "apiKey", "in": "header", "name": "g4f-api-key"},
        "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
    }
    security: list[dict[str, list[str]]] = [{name: []} for name in components["securitySchemes"]]
    error = {"$ref": "#/components/schemas/Error"}
    for path in result["paths"].values():
        for method, operation in path.items():
            if not isinstance(operation, dict) or method == "parameters":
                continue
            operation["security"] = security
            for status in ("400", "401", "403", "404"):
                operation["responses"].setdefault(
                    status, {"description": "Error", "content": {"application/json": {"schema": error}}}
                )
    return result
