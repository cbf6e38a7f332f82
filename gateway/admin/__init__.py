"""The gateway's pages in the admin, one file per topic."""

from gateway.admin import keys, models, providers, usage, users

__all__ = ["keys", "models", "providers", "usage", "users"]
