"""The media app's pages in the admin, one file per topic."""

from media import bucket_admin, file_admin

__all__ = ["bucket_admin", "file_admin"]
