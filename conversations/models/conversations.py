"""The tables of conversations: a tree of messages each, and the answers that are being made for them."""

from __future__ import annotations

import uuid

from django.conf import settings
from django.db import models
from django.utils import timezone

TITLE_CHARS = 300
NAME_CHARS = 255
FOLDER_CHARS = 100
CLIENT_ID_CHARS = 100
ORIGIN_CHARS = 200


class State(models.TextChoices):
    """What became of an answer. What a user wrote is `done` from the first."""

    QUEUED = "queued"
    STREAMING = "streaming"
    DONE = "done"
    STOPPED = "stopped"
    INTERRUPTED = "interrupted"
    ERROR = "error"


RUNNING = (State.QUEUED, State.STREAMING)


class Conversation(models.Model):
    """A tree of messages of one user. `version` moves with every change, `updated_at` with what is said."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="conversations")
    title = models.CharField(max_length=TITLE_CHARS, blank=True, default="")
    system_prompt = models.TextField(blank=True, default="")
    model = models.CharField(max_length=NAME_CHARS, blank=True, default="")
    provider = models.CharField(max_length=NAME_CHARS, blank=True, default="")
    settings = models.JSONField(blank=True, default=dict, help_text="What its requests say beside the messages.")
    folder = models.CharField(max_length=FOLDER_CHARS, blank=True, default="", help_text="Empty: in none.")
    tags = models.JSONField(blank=True, default=list, help_text="A list of texts.")
    pinned = models.BooleanField(default=False)
    archived = models.BooleanField(default=False)
    temporary = models.BooleanField(default=False, help_text="In no list, and not kept for long.")
    deleted_at = models.DateTimeField(null=True, blank=True, db_index=True, help_text="Since when it is in the bin.")
    # Not a foreign key: the two tables would refer to each other, and a branch that goes would have to ask.
    active_leaf = models.UUIDField(null=True, blank=True, help_text="The last message of the branch that is shown.")
    state = models.JSONField(blank=True, default=dict, help_text="What its providers gave to be sent back to them.")
    origin = models.CharField(max_length=ORIGIN_CHARS, blank=True, default="", help_text="What it was imported from.")
    created_at = models.DateTimeField(default=timezone.now)
    updated_at = models.DateTimeField(default=timezone.now)
    version = models.PositiveIntegerField(default=1)

    class Meta:
        ordering = ("-updated_at", "-id")
        constraints = [
            models.UniqueConstraint(
                fields=("owner", "origin"), condition=~models.Q(origin=""), name="conversation_origin_per_owner"
            )
        ]
        indexes = [
            models.Index(fields=("owner", "deleted_at", "archived", "-updated_at", "-id"), name="conversation_list"),
            models.Index(fields=("owner", "folder"), name="conversation_folder"),
        ]

    def __str__(self) -> str:
        return str(self.id)


class ConversationLimits(models.Model):
    """What one user may keep, where that is not what the settings say."""

    user = models.OneToOneField(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, primary_key=True, related_name="conversation_limits"
    )
    max_conversations = models.PositiveIntegerField(
        null=True, blank=True, help_text="Empty: CONVERSATIONS_PER_USER. 0: no limit."
    )

    class Meta:
        verbose_name = verbose_name_plural = "limits of conversations"

    def __str__(self) -> str:
        return str(self.user_id)


class Message(models.Model):
    """One message. Once `done`, what it says never changes: an edit or another answer is a sibling."""

    class Role(models.TextChoices):
        SYSTEM = "system"
        USER = "user"
        ASSISTANT = "assistant"
        TOOL = "tool"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    conversation = models.ForeignKey(Conversation, on_delete=models.CASCADE, related_name="messages")
    # Its conversation's, repeated for the constraint and for the search.
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    # Whole branches go at once (tree.py): Django would follow them one message deeper at a time.
    parent = models.ForeignKey("self", on_delete=models.DO_NOTHING, null=True, blank=True, related_name="children")
    seq = models.PositiveIntegerField(help_text="Its place in the order in which they came, from 1.")
    role = models.CharField(max_length=10, choices=Role.choices)
    content = models.JSONField(default=str, help_text="A text, or a list of parts.")
    text = models.TextField(blank=True, default="", help_text="The content's words, for search and lists.")
    reasoning = models.TextField(blank=True, default="")
    tool_calls = models.JSONField(blank=True, default=list)
    attachments = models.JSONField(blank=True, default=list)
    citations = models.JSONField(blank=True, default=list, help_text="Sources: url, title, start, end.")
    extra = models.JSONField(blank=True, default=dict, help_text="What else was said of it: name, tool_call_id, ...")
    provider = models.CharField(max_length=NAME_CHARS, blank=True, default="")
    model = models.CharField(max_length=NAME_CHARS, blank=True, default="")
    usage = models.JSONField(null=True, blank=True)
    cost = models.BigIntegerField(null=True, blank=True, help_text="Nano-dollars. Empty: unknown.")
    finish_reason = models.CharField(max_length=50, blank=True, default="")
    error = models.JSONField(null=True, blank=True)
    state = models.CharField(max_length=12, choices=State.choices, default=State.DONE)
    client_id = models.CharField(max_length=CLIENT_ID_CHARS, blank=True, default="", help_text="The sender's own id.")
    created_at = models.DateTimeField(default=timezone.now)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ("seq",)
        constraints = [
            models.UniqueConstraint(fields=("conversation", "seq"), name="message_seq"),
            models.UniqueConstraint(
                fields=("owner", "client_id"), condition=~models.Q(client_id=""), name="message_client_id_per_owner"
            ),
        ]

    def __str__(self) -> str:
        return str(self.id)


class Generation(models.Model):
    """The making of one answer by a process that holds a lease on it."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    message = models.OneToOneField(Message, on_delete=models.CASCADE, related_name="generation")
    conversation = models.ForeignKey(Conversation, on_delete=models.CASCADE, related_name="generations")
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    state = models.CharField(max_length=12, choices=State.choices, default=State.QUEUED)
    seq = models.PositiveBigIntegerField(default=0, help_text="The number of its last event.")
    lease_until = models.DateTimeField(null=True, blank=True)
    worker = models.CharField(max_length=100, blank=True, default="")
    stop_requested = models.BooleanField(default=False)
    request = models.JSONField(blank=True, default=dict, help_text="What is needed to go on with it.")
    created_at = models.DateTimeField(default=timezone.now)
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes = [models.Index(fields=("state", "lease_until"), name="generation_lease")]

    def __str__(self) -> str:
        return str(self.id)
