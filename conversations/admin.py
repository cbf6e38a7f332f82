"""Conversations in the admin: whose, how many, how large. What is said in them is their owners' alone, titles too."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import Count, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.http import Http404, HttpRequest

from conversations.models import Conversation, ConversationLimits, Message
from conversations.quota import kept_by
from gateway.admin.usage import BoundedPaginator
from gateway.admin.users import GatewayUserAdmin


class ConversationLimitsInline(admin.StackedInline):  # type: ignore[type-arg]
    """How many the user may keep, beside how many there are."""

    model = ConversationLimits
    can_delete = False
    verbose_name = "Conversations"
    fields = (("max_conversations", "used"),)
    readonly_fields = ("used",)

    @admin.display(description="Kept now")
    def used(self, limits: ConversationLimits) -> str:
        return f"{kept_by(limits.user_id):,}"


GatewayUserAdmin.inlines = (*GatewayUserAdmin.inlines, ConversationLimitsInline)


@admin.register(Conversation)
class ConversationAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """A list that can be looked at and nothing else."""

    list_display = ("id", "owner", "created_at", "updated_at", "message_count", "archived", "deleted_at")
    list_display_links = None
    list_filter = ("archived", "temporary", ("deleted_at", admin.EmptyFieldListFilter))
    list_select_related = ("owner",)
    list_per_page = 50
    show_full_result_count = False
    paginator = BoundedPaginator
    search_fields = ("owner__username",)
    ordering = ("-updated_at",)
    actions = None

    def get_queryset(self, request: HttpRequest) -> QuerySet[Conversation]:
        hidden = ("title", "system_prompt", "settings", "tags", "folder", "state")
        # Counted for the rows of a page alone.
        messages = Message.objects.filter(conversation=OuterRef("pk")).order_by().values("conversation")
        counted = Coalesce(Subquery(messages.annotate(count=Count("pk")).values("count")), 0)
        rows: QuerySet[Conversation] = super().get_queryset(request).defer(*hidden).annotate(message_count=counted)
        return rows

    @admin.display(description="messages")
    def message_count(self, row: Any) -> int:
        return int(row.message_count)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """With their user they go; by themselves only their owners delete them."""
        return (
            obj is not None
            and request.resolver_match is not None
            and "auth_user" in (request.resolver_match.url_name or "")
        )

    def change_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        """There is no page of one: it would show what is said."""
        raise Http404

    def history_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        raise Http404
