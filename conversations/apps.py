"""The conversations app."""

from __future__ import annotations

from django.apps import AppConfig
from django.db.models.signals import post_migrate


class ConversationsConfig(AppConfig):
    name = "conversations"

    def ready(self) -> None:
        from conversations.generation import redis_log
        from conversations.generation.turns import open_turn
        from conversations.live import changes
        from conversations.retention import purge_conversations
        from conversations.search import install
        from conversations.shares.store import purge_expired, revoke_named
        from gateway.contexts import contexts
        from gateway.retention import purges
        from media.buckets import deleted_alike

        post_migrate.connect(install, sender=self, dispatch_uid="conversations.search")
        purges["conversations"] = purge_conversations
        purges["expired shares"] = purge_expired
        deleted_alike.append(revoke_named)
        contexts.open_turn = open_turn
        changes.connect()
        redis_log.connect()
