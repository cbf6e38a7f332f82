"""Buckets in the admin: whose they are, what is in them and what could not be read. Their contents are not shown."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import Count, QuerySet, Sum
from django.http import HttpRequest, HttpResponse
from django.template.defaultfilters import filesizeformat

from media.models import Bucket, Document


class DocumentInline(admin.TabularInline):  # type: ignore[type-arg]
    model = Document
    fields = readonly_fields = ("label", "kind", "state", "error", "size")
    extra = 0
    can_delete = False

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_queryset(self, request: HttpRequest) -> QuerySet[Document]:
        return super().get_queryset(request).select_related("original", "text")

    @admin.display(description="size")
    def size(self, document: Document) -> str:
        stored = document.original or document.text
        return filesizeformat(stored.size) if stored else "-"


@admin.register(Bucket)
class BucketAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Made by uploads; here they are looked at and deleted."""

    list_display = ("label", "owner", "files_in_it", "size", "created_at")
    list_select_related = ("owner",)
    search_fields = ("label", "owner__username")
    date_hierarchy = "created_at"
    readonly_fields = fields = ("id", "label", "owner", "created_at")
    inlines = (DocumentInline,)

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        return super().changelist_view(request, {"title": "Buckets", **(extra_context or {})})

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Who is not a superuser touches nothing of other staff, as with files."""
        allowed = super().has_delete_permission(request, obj)
        if not allowed or obj is None or getattr(request.user, "is_superuser", False):
            return allowed
        return bool(obj.owner_id == request.user.pk or not (obj.owner.is_staff or obj.owner.is_superuser))

    def get_queryset(self, request: HttpRequest) -> QuerySet[Bucket]:
        found: QuerySet[Bucket] = super().get_queryset(request)
        return found.annotate(file_count=Count("files"), byte_count=Sum("files__size"))

    @admin.display(description="files", ordering="file_count")
    def files_in_it(self, bucket: Any) -> int:
        return int(bucket.file_count)

    @admin.display(description="size", ordering="byte_count")
    def size(self, bucket: Any) -> str:
        return filesizeformat(bucket.byte_count or 0)
