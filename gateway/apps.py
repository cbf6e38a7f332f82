"""The gateway app: hooks configuration changes to the version that every worker watches."""

from __future__ import annotations

from django.apps import AppConfig


class GatewayConfig(AppConfig):
    name = "gateway"
    verbose_name = "Gateway"

    def ready(self) -> None:
        from gateway import checks, versioning  # noqa: F401 - importing registers checks and signals
