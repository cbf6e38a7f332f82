"""The media app's pages in the admin, one file per topic."""

from media import file_admin

__all__ = ["file_admin"]
