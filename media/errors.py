"""What can go wrong with files, and what the caller is told. The gateway renders these as its own errors."""

from __future__ import annotations


class MediaError(Exception):
    """Knows its own answer: `message` is written for the caller and holds no secret."""

    status = 400
    type = "invalid_request_error"
    code = "invalid_value"

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param


class FileMissing(MediaError):
    """There is none, or it is another's: nobody learns which."""

    status, code = 404, "file_not_found"

    def __init__(self, message: str = "File not found.") -> None:
        super().__init__(message)


class FileTooLarge(MediaError):
    status, code = 413, "file_too_large"


class QuotaExceeded(MediaError):
    """The owner's files are as many, or as large, as they may be."""

    status, code = 413, "quota_exceeded"


class UnknownType(MediaError):
    status, code = 415, "unsupported_file_type"


class BrokenPicture(MediaError):
    status, code = 422, "invalid_image"


class PictureTooLarge(MediaError):
    """Few bytes may be many pixels."""

    status, code = 413, "image_too_large"


class LinkRefused(MediaError):
    """A signed address that is over, was changed, or was made for something else."""

    status, type, code = 403, "permission_error", "invalid_signature"


class StorageFull(MediaError):
    status, type, code = 507, "server_error", "insufficient_storage"


class StorageAway(MediaError):
    """The storage cannot be reached or refuses us; trying again later may help."""

    status, type, code = 503, "service_unavailable_error", "storage_unavailable"
