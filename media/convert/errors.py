"""Why there is no text of a file.

ConversionError
├── Unsupported  415: nothing here reads this kind of file
├── Unreadable   422: damaged, encrypted, too large, or it took too long
└── Busy         503: too many files are being read; the same file may work later
"""

from __future__ import annotations


class ConversionError(Exception):
    """`message` is for whoever gave the file."""

    status = 422
    code = "unreadable_file"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class Unsupported(ConversionError):
    status, code = 415, "unsupported_file"


class Unreadable(ConversionError):
    pass


class Busy(ConversionError):
    status, code = 503, "conversion_busy"
