"""What messages refer to: files and buckets of the same user's."""

from __future__ import annotations

import re
import uuid
from typing import Any

from media.models import Bucket, StoredFile

UUID = re.compile(r"[0-9a-fA-F]{8}-?(?:[0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}\Z")


def is_own(owner_id: int, part: dict[str, Any]) -> bool:
    """Whether an attachment or a part of a content names no file (`file_id`, `bucket_id`) but the owner's."""
    file, bucket = part.get("file_id"), part.get("bucket_id")
    if file is not None:
        if not (isinstance(file, str) and UUID.match(file)):
            return False
        if not StoredFile.objects.filter(owner_id=owner_id, pk=uuid.UUID(file)).exists():
            return False
    return bucket is None or (
        isinstance(bucket, str) and Bucket.objects.filter(owner_id=owner_id, label=bucket).exists()
    )
