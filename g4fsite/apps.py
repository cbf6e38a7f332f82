"""The site as a Django app, and the admin with our own site object."""

from __future__ import annotations

from django.apps import AppConfig
from django.contrib.admin.apps import AdminConfig


class SiteConfig(AppConfig):
    name = "g4fsite"
    verbose_name = "Site"

    def ready(self) -> None:
        from g4fsite import sessions
        from gateway.retention import purges

        sessions.watch()
        purges["sessions"] = sessions.purge_sessions


class GatewayAdminConfig(AdminConfig):
    default_site = "g4fsite.admin_site.GatewayAdminSite"
