"""Finding one's own files by words of their names, prompts and types."""

from __future__ import annotations

import random
import re
from typing import Any
from uuid import UUID

from django.db.models import Case, F, IntegerField, Q, QuerySet, Value, When

from media import links
from media.errors import FileMissing, MediaError
from media.models import Document, StoredFile

MAX_HITS = 100
MAX_SKIP = 100_000
MAX_TERMS = 10
MAX_LENGTH = 200
# Not the names in addresses, half of which is chance. Case-insensitive; Django escapes % and _.
FIELDS = ("label", "prompt", "content_type")
SEPARATORS = re.compile(r"[+\s]+")


def found(owner_id: int, terms: str, least: int | None = None) -> QuerySet[StoredFile]:
    """The owner's files that all terms match, or at least so many, the newest first. Raises MediaError."""
    words = [word for word in SEPARATORS.split(terms) if word]
    if not words or len(words) > MAX_TERMS or len(terms) > MAX_LENGTH or "\x00" in terms:
        raise MediaError(
            f"Search for 1 to {MAX_TERMS} terms of together at most {MAX_LENGTH} characters.", param="terms"
        )
    score: Any = Value(0)
    for word in words:
        matched = Q()
        for field in FIELDS:
            matched |= Q(**{f"{field}__icontains": word})
        score += Case(When(matched, then=1), default=0, output_field=IntegerField())
    wanted = len(words) if least is None else min(least, len(words))
    files = StoredFile.objects.filter(owner_id=owner_id).exclude(pk__in=_derived(owner_id))
    return files.annotate(score=score).filter(score__gte=wanted).order_by("-created_at", "-pk")


def _derived(owner_id: int) -> QuerySet[Document, Any]:
    """What was made of documents is found under the documents themselves."""
    texts = Document.objects.filter(bucket__owner_id=owner_id, text__isnull=False, original__isnull=False)
    return texts.exclude(text=F("original")).values("text")


def one(files: QuerySet[StoredFile], skip: int, seed: str) -> StoredFile:
    """The first after `skip`, or any: `seed` "true" or "1" another each time, else always the same for the same seed.

    Raises FileMissing.
    """
    if seed:
        count = files.count()
        chance = random.Random(None if seed.lower() in ("true", "1") else seed)  # noqa: S311 # nosec B311 - no secret
        skip = chance.randrange(count) if count else 0
    hit = next(iter(files[skip : skip + 1]), None)
    if hit is None:
        raise FileMissing("Not found.")
    return hit


def page(files: QuerySet[StoredFile], after: str, limit: int, skip: int) -> dict[str, Any]:
    """Up to `limit` of them, those behind the file whose id is `after`. Raises MediaError."""
    if after:
        last = _last(files, after)
        files = files.filter(Q(created_at__lt=last.created_at) | Q(created_at=last.created_at, pk__lt=last.pk))
    hits = list(files[skip : skip + limit + 1])
    more, hits = len(hits) > limit, hits[:limit]
    return {
        "object": "list",
        "data": [described(hit) for hit in hits],
        "has_more": more,
        "last_id": str(hits[-1].pk) if hits else None,
    }


def _last(files: QuerySet[StoredFile], after: str) -> StoredFile:
    try:
        last = files.filter(pk=UUID(after)).first()
    except ValueError:
        last = None
    if last is None:
        raise MediaError("There is no such hit to go on from.", param="after")
    return last


def described(stored: StoredFile) -> dict[str, Any]:
    return {
        "id": str(stored.pk),
        "name": stored.name,
        "label": stored.label,
        "url": links.session_path(stored),
        "thumbnail": links.thumbnail_path(stored) if stored.width else None,
        "content_type": stored.content_type,
        "size": stored.size,
        "width": stored.width,
        "height": stored.height,
        "source": stored.source,
        "prompt": stored.prompt,
        "provider": stored.provider,
        "model": stored.model,
        "created": int(stored.created_at.timestamp()),
    }
