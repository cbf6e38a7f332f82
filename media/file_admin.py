"""Stored files in the admin: whose they are and how large. What is in them is their owner's business."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.auth import get_user_model
from django.db.models import BooleanField, ExpressionWrapper, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.defaultfilters import filesizeformat
from django.utils.html import format_html
from django.utils.safestring import SafeString

from media.kinds import IMAGES
from media.links import session_path, thumbnail_path
from media.models import StoredFile

KINDS = {"image": "Pictures", "audio": "Sound", "video": "Films", "text": "Texts", "application": "Documents"}


class KindFilter(admin.SimpleListFilter):
    title = "type"
    parameter_name = "kind"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [*KINDS.items()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[StoredFile]) -> QuerySet[StoredFile]:
        return queryset.filter(content_type__startswith=f"{self.value()}/") if self.value() in KINDS else queryset


@admin.register(StoredFile)
class StoredFileAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Made by uploads and models; here they are looked at and deleted, and their bytes with them.

    Names and sizes are for who looks after the disk. Pictures are shown to their owner alone, as everywhere, and
    prompts, of which names of generated files hold the first words, to nobody.
    """

    list_display = ("preview", "label", "owner", "content_type", "bytes", "source", "bucket", "created_at")
    list_display_links = ("label",)
    list_select_related = ("owner", "bucket")
    list_filter = (KindFilter, "source", "created_at")
    list_per_page = 50
    list_max_show_all = 0
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    search_fields = ("label", "name", "owner__username")
    search_help_text = "Names of files and of users."
    ordering = ("-created_at",)
    fields = readonly_fields = (
        "preview", "label", "owner", "bucket", "content_type", "bytes", "pixels", "source", "provider", "model",
        "created_at",
    )  # fmt: skip

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        return super().changelist_view(request, {"title": "Stored files", **(extra_context or {})})

    def get_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        """Without a place for the picture where none is shown."""
        shown = obj is None or self.preview(obj) is not None
        return [name for name in self.readonly_fields if shown or name != "preview"]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Who is not a superuser touches nothing of other staff, as with keys."""
        allowed = super().has_delete_permission(request, obj)
        if not allowed or obj is None or getattr(request.user, "is_superuser", False):
            return allowed
        reached = Q(is_staff=False, is_superuser=False) | Q(pk=request.user.pk)
        return get_user_model().objects.filter(reached, pk=obj.owner_id).exists()

    def get_queryset(self, request: HttpRequest) -> QuerySet[StoredFile]:
        own = ExpressionWrapper(Q(owner=request.user.pk), BooleanField())
        rows: QuerySet[StoredFile] = super().get_queryset(request).annotate(is_own=own)
        return rows

    @admin.display(description="", empty_value="")
    def preview(self, stored: StoredFile) -> SafeString | None:
        if stored.content_type not in IMAGES or not getattr(stored, "is_own", False):
            return None
        return format_html(
            '<a href="{}"><img class="preview" src="{}" alt="" width="40" height="40" loading="lazy"></a>',
            session_path(stored),
            thumbnail_path(stored),
        )

    @admin.display(description="Size", ordering="size")
    def bytes(self, stored: StoredFile) -> str:
        return filesizeformat(stored.size)

    @admin.display(description="Pixels")
    def pixels(self, stored: StoredFile) -> str:
        return f"{stored.width} × {stored.height}" if stored.width else "–"
