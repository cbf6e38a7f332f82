"""The bodies of these routes, for the OpenAPI schema."""

from __future__ import annotations

from rest_framework import serializers

from conversations.models import Message, State


class Snippet(serializers.Serializer):  # type: ignore[type-arg]
    text = serializers.CharField()
    match = serializers.BooleanField()


class Hit(serializers.Serializer):  # type: ignore[type-arg]
    message = serializers.UUIDField()
    role = serializers.ChoiceField(Message.Role.choices)
    created_at = serializers.DateTimeField()
    snippet = Snippet(many=True)


class Found(serializers.Serializer):  # type: ignore[type-arg]
    object = serializers.ChoiceField(["list"])
    data = Hit(many=True)  # type: ignore[assignment]
    complete = serializers.BooleanField(help_text="False: there are more than are told.")


class ConversationListed(serializers.Serializer):  # type: ignore[type-arg]
    id = serializers.UUIDField()
    object = serializers.ChoiceField(["conversation"])
    title = serializers.CharField()
    model = serializers.CharField()
    provider = serializers.CharField()
    folder = serializers.CharField()
    tags = serializers.ListField(child=serializers.CharField())
    pinned = serializers.BooleanField()
    archived = serializers.BooleanField()
    temporary = serializers.BooleanField(help_text="In no list, and not kept for long.")
    deleted_at = serializers.DateTimeField(allow_null=True)
    active_leaf = serializers.UUIDField(allow_null=True, help_text="The last message of the branch that is shown.")
    version = serializers.IntegerField(help_text="Moves with every change.")
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField(help_text="When something was last said.")


class ConversationFound(ConversationListed):
    hits = Hit(many=True, required=False)


class ConversationList(serializers.Serializer):  # type: ignore[type-arg]
    object = serializers.ChoiceField(["list"])
    data = ConversationFound(many=True)  # type: ignore[assignment]
    has_more = serializers.BooleanField()
    next_cursor = serializers.CharField(allow_null=True)
    complete = serializers.BooleanField(required=False, help_text="False: only the newest hits were looked at.")


class MessageBody(serializers.Serializer):  # type: ignore[type-arg]
    id = serializers.UUIDField()
    object = serializers.ChoiceField(["message"])
    conversation = serializers.UUIDField()
    parent = serializers.UUIDField(allow_null=True)  # type: ignore[assignment]
    siblings = serializers.ListField(
        child=serializers.UUIDField(), help_text="All that stand in its place, oldest first."
    )
    seq = serializers.IntegerField()
    role = serializers.ChoiceField(Message.Role.choices)
    content = serializers.JSONField(help_text="A text, or a list of parts.")
    reasoning = serializers.CharField()
    tool_calls = serializers.ListField(child=serializers.DictField())
    attachments = serializers.ListField(child=serializers.DictField())
    citations = serializers.ListField(child=serializers.DictField(), help_text="url, title, start, end.")
    extra = serializers.DictField()
    provider = serializers.CharField()
    model = serializers.CharField()
    usage = serializers.DictField(allow_null=True)
    cost = serializers.IntegerField(allow_null=True, help_text="Nano-dollars.")
    finish_reason = serializers.CharField(allow_null=True)
    error = serializers.DictField(allow_null=True)
    state = serializers.ChoiceField(State.choices)
    client_id = serializers.CharField(allow_null=True)
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()


class Totals(serializers.Serializer):  # type: ignore[type-arg]
    prompt_tokens = serializers.IntegerField(allow_null=True)
    completion_tokens = serializers.IntegerField(allow_null=True)
    cost = serializers.IntegerField(allow_null=True, help_text="Nano-dollars.")


class ConversationWhole(ConversationListed):
    totals = Totals(help_text="What its answers took, on all branches; null where none is known.")
    system_prompt = serializers.CharField()
    settings = serializers.DictField()
    messages = MessageBody(many=True)
    has_more = serializers.BooleanField(help_text="Whether there are older messages: ask with `before`.")
    has_newer = serializers.BooleanField(help_text="Whether newer ones follow: ask with `after`.")


class ConversationSet(serializers.Serializer):  # type: ignore[type-arg]
    title = serializers.CharField(required=False)
    system_prompt = serializers.CharField(required=False)
    model = serializers.CharField(required=False)
    provider = serializers.CharField(required=False)
    settings = serializers.DictField(required=False)
    folder = serializers.CharField(required=False)
    tags = serializers.ListField(child=serializers.CharField(), required=False)
    pinned = serializers.BooleanField(required=False)
    archived = serializers.BooleanField(required=False)


class ConversationFields(ConversationSet):
    temporary = serializers.BooleanField(required=False)


class ConversationChanges(ConversationSet):
    active_leaf = serializers.UUIDField(required=False, help_text="Any message: its newest end is shown.")
    version = serializers.IntegerField(required=False)


class MessageFields(serializers.Serializer):  # type: ignore[type-arg]
    role = serializers.ChoiceField(Message.Role.choices, required=False)
    content = serializers.JSONField()
    parent = serializers.UUIDField(required=False, allow_null=True, help_text="Missing: the end of the shown branch.")  # type: ignore[assignment]
    branch = serializers.BooleanField(required=False, help_text="A sibling is meant: the parent may have answers.")
    client_id = serializers.CharField(required=False)
    version = serializers.IntegerField(required=False)
    reasoning = serializers.CharField(required=False)
    tool_calls = serializers.ListField(child=serializers.DictField(), required=False)
    attachments = serializers.ListField(child=serializers.DictField(), required=False)
    extra = serializers.DictField(required=False)
    provider = serializers.CharField(required=False)
    model = serializers.CharField(required=False)


class MessageList(serializers.Serializer):  # type: ignore[type-arg]
    object = serializers.ChoiceField(["list"])
    data = MessageBody(many=True)  # type: ignore[assignment]
    has_more = serializers.BooleanField()


class Node(serializers.Serializer):  # type: ignore[type-arg]
    id = serializers.UUIDField()
    parent = serializers.UUIDField(allow_null=True)  # type: ignore[assignment]
    seq = serializers.IntegerField()
    role = serializers.ChoiceField(Message.Role.choices)
    state = serializers.ChoiceField(State.choices)
    model = serializers.CharField()
    preview = serializers.CharField(help_text="How it begins.")
    created_at = serializers.DateTimeField()


class Tree(serializers.Serializer):  # type: ignore[type-arg]
    object = serializers.ChoiceField(["tree"])
    active_leaf = serializers.UUIDField(allow_null=True)
    version = serializers.IntegerField()
    nodes = Node(many=True)


class Deleted(serializers.Serializer):  # type: ignore[type-arg]
    id = serializers.UUIDField()
    object = serializers.CharField()
    deleted = serializers.BooleanField()


class Count(serializers.Serializer):  # type: ignore[type-arg]
    count = serializers.IntegerField()


class Bulk(serializers.Serializer):  # type: ignore[type-arg]
    ids = serializers.ListField(child=serializers.UUIDField())
    action = serializers.CharField(
        help_text="delete, restore, purge, archive, unarchive, pin, unpin, move, tag or untag."
    )
    folder = serializers.CharField(required=False, help_text="With `move`; empty: none.")
    tags = serializers.ListField(child=serializers.CharField(), required=False, help_text="With `tag` and `untag`.")


class Name(serializers.Serializer):  # type: ignore[type-arg]
    name = serializers.CharField()
    count = serializers.IntegerField()


class Names(serializers.Serializer):  # type: ignore[type-arg]
    object = serializers.ChoiceField(["list"])
    data = Name(many=True)  # type: ignore[assignment]


class Rename(serializers.Serializer):  # type: ignore[type-arg]
    name = serializers.CharField()
    to = serializers.CharField()


class Key(serializers.Serializer):  # type: ignore[type-arg]
    surfaces = serializers.ListField(child=serializers.CharField(), help_text="Empty: all.")
    models = serializers.ListField(child=serializers.CharField(), help_text="Empty: all.")


class Me(serializers.Serializer):  # type: ignore[type-arg]
    object = serializers.ChoiceField(["user"])
    id = serializers.IntegerField()
    username = serializers.CharField()
    email = serializers.CharField()
    is_staff = serializers.BooleanField()
    key = Key(allow_null=True, help_text="The API key that asked; null for a browser's session.")


class StaleError(serializers.Serializer):  # type: ignore[type-arg]
    error = serializers.DictField()
    conversation = ConversationWhole()


class ImportFile(serializers.Serializer):  # type: ignore[type-arg]
    file = serializers.FileField(help_text="JSON, or a zip file with conversations.json in it.")


class Imported(serializers.Serializer):  # type: ignore[type-arg]
    id = serializers.UUIDField(allow_null=True)
    title = serializers.CharField()
    status = serializers.ChoiceField(["imported", "updated", "unchanged", "failed"])
    messages = serializers.IntegerField(help_text="How many were added.")
    warnings = serializers.ListField(child=serializers.CharField())


class ImportReport(serializers.Serializer):  # type: ignore[type-arg]
    object = serializers.ChoiceField(["import"])
    imported = serializers.IntegerField()
    updated = serializers.IntegerField()
    unchanged = serializers.IntegerField()
    failed = serializers.IntegerField()
    conversations = Imported(many=True)
    warnings = serializers.ListField(child=serializers.CharField())
