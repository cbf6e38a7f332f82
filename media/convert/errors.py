"""Why there is no text of a file.

ConversionError
├── Unsupported  415: nothing here reads this kind of file
├── Unreadable   422: damaged, encrypted, too large, or it took too long
└── Busy         503: too many files are being read; the same file may work later
"""

from __future__ import annotations

from media.errors import MediaError


class ConversionError(MediaError):
    """`message` is for whoever gave the file."""

    status, code = 422, "unreadable_file"


class Unsupported(ConversionError):
    status, code = 415, "unsupported_file_type"


class Unreadable(ConversionError):
    pass


class Busy(ConversionError):
    status, type, code = 503, "service_unavailable_error", "conversion_busy"
