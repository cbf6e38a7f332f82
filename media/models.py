"""The tables of files: who owns what, where its bytes are, and how much each user may keep."""

from __future__ import annotations

import uuid

from django.conf import settings
from django.core.validators import MaxValueValidator
from django.db import models

MOST_BYTES = 2**62
MOST_FILES = 2_000_000_000


class Bucket(models.Model):
    """A folder of one user's. Two users' buckets may have the same label."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="buckets")
    label = models.CharField(max_length=255, help_text="The id as the client gave it.")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=("owner", "label"), name="bucket_label_per_owner")]
        ordering = ("-created_at",)

    def __str__(self) -> str:
        return self.label


class Blob(models.Model):
    """Bytes in the storage. The row is there before the bytes are and goes after they went, so none is ever lost.

    `written`: being stored, or left behind by a process that died. `kept`: files refer to it. `dead`: to be deleted.
    """

    class State(models.TextChoices):
        WRITTEN = "written"
        KEPT = "kept"
        DEAD = "dead"

    # Of nobody once the user is gone: then it is to be deleted as well.
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+")
    path = models.CharField(max_length=100, unique=True)
    sha256 = models.CharField(max_length=64)
    size = models.PositiveBigIntegerField()
    state = models.CharField(max_length=10, choices=State.choices, default=State.WRITTEN)
    # A small picture of another blob: not counted, and never taken for a file.
    is_thumbnail = models.BooleanField(default=False)
    thumbnail = models.ForeignKey("self", on_delete=models.SET_NULL, null=True, related_name="+")
    content_type = models.CharField(max_length=100)
    changed_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=("owner", "sha256"),
                condition=models.Q(state="kept", is_thumbnail=False),
                name="blob_once_per_owner",
            )
        ]
        indexes = [models.Index(fields=("state", "changed_at"), name="blob_state")]

    def __str__(self) -> str:
        return self.path


class StoredFile(models.Model):
    """A file as its owner knows it. Several may share one blob."""

    class Source(models.TextChoices):
        GENERATED = "generated"
        UPLOAD = "upload"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="stored_files")
    bucket = models.ForeignKey(Bucket, on_delete=models.CASCADE, null=True, blank=True, related_name="files")
    blob = models.ForeignKey(Blob, on_delete=models.PROTECT, related_name="files", editable=False)
    name = models.CharField(max_length=200, unique=True, help_text="The last part of its address, not to be guessed.")
    label = models.CharField(max_length=255, help_text="The name as it was given.")
    content_type = models.CharField(max_length=100)
    size = models.PositiveBigIntegerField()
    sha256 = models.CharField(max_length=64)
    width = models.PositiveIntegerField(null=True, blank=True)
    height = models.PositiveIntegerField(null=True, blank=True)
    source = models.CharField(max_length=10, choices=Source.choices)
    prompt = models.TextField(blank=True, default="")
    provider = models.CharField(max_length=100, blank=True, default="")
    model = models.CharField(max_length=255, blank=True, default="")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("-created_at",)
        indexes = [models.Index(fields=("owner", "-created_at"), name="file_of_owner")]

    def __str__(self) -> str:
        return self.label or self.name


class Document(models.Model):
    """A file in a bucket by the name its owner gave it: as it came, and what can be read of it.

    Plain texts are both at once. `waiting` is read by whoever reads the bucket first. The text of sound and film is
    their transcript, where there is one.
    """

    class Kind(models.TextChoices):
        TEXT = "text"
        MEDIA = "media"
        DOWNLOADS = "downloads"

    class State(models.TextChoices):
        WAITING = "waiting"
        READ = "read"
        FAILED = "failed"

    bucket = models.ForeignKey(Bucket, on_delete=models.CASCADE, related_name="documents")
    label = models.CharField(max_length=255, help_text="The name as it was given.")
    kind = models.CharField(max_length=10, choices=Kind.choices)
    state = models.CharField(max_length=10, choices=State.choices)
    error = models.CharField(max_length=500, blank=True, default="", help_text="Why it could not be read.")
    original = models.ForeignKey(StoredFile, on_delete=models.SET_NULL, null=True, blank=True, related_name="+")
    text = models.ForeignKey(StoredFile, on_delete=models.SET_NULL, null=True, blank=True, related_name="+")
    note = models.TextField(blank=True, default="", help_text="What a picture says of itself.")
    language = models.CharField(max_length=35, blank=True, default="", help_text="Spoken in a recording, if known.")
    # A transcript costs money: until then somebody is at it, who moves this on.
    claimed_until = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=("bucket", "label"), name="document_label_per_bucket")]
        ordering = ("pk",)

    def __str__(self) -> str:
        return self.label

    @property
    def shown(self) -> str:
        """Its name as text: what was turned into Markdown ends so."""
        return self.label if self.text_id == self.original_id else f"{self.label}.md"


class Quota(models.Model):
    """What one user may keep. Uploads of a user lock this row, so that two at once cannot both take the last place."""

    user = models.OneToOneField(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, primary_key=True, related_name="media_quota"
    )
    max_bytes = models.PositiveBigIntegerField(
        null=True,
        blank=True,
        validators=[MaxValueValidator(MOST_BYTES)],
        help_text="Of all files together. Empty: MEDIA_QUOTA_BYTES. 0: no limit.",
    )
    max_files = models.PositiveIntegerField(
        null=True,
        blank=True,
        validators=[MaxValueValidator(MOST_FILES)],
        help_text="Empty: MEDIA_QUOTA_FILES. 0: no limit.",
    )

    class Meta:
        verbose_name = verbose_name_plural = "quota of files"

    def __str__(self) -> str:
        return f"quota of {self.user}"
