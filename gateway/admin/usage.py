"""Usage in the admin: a list that nobody can change and that stays fast however long it grows."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.contrib import admin
from django.contrib.auth import get_user_model
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.functional import cached_property
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from gateway.models import ApiKey, Price, Provider, UsageEvent
from gateway.overview import seconds

PER_PAGE = 50
# Nobody turns more pages than this; a filter finds what is older.
DEEPEST = 100 * PER_PAGE
SPANS = {"1h": ("Last hour", 1), "24h": ("Last 24 hours", 24), "7d": ("Last 7 days", 168), "30d": ("Last 30 days", 720)}
LAMPS = {"ok": "ok", "error": "bad", "cancelled": "off", "interrupted": "warn"}
# What was used is known, what it costs is not: the model has no price.
UNKNOWN = "unknown"
BIGGEST_ID = 2**63 - 1


def dollars(nano: int | None) -> str:
    return "–" if nano is None else f"${nano / 1e9:,.4f}" if nano < 1e9 else f"${nano / 1e9:,.2f}"


def number(value: int | None) -> str:
    return "–" if value is None else f"{value:,}"


class BoundedPaginator(Paginator):  # type: ignore[type-arg]
    """Counts no further than the deepest page, so a million rows cost no more than five thousand."""

    @cached_property
    def count(self) -> int:
        rows: QuerySet[UsageEvent] = self.object_list  # type: ignore[assignment]
        return len(rows.values_list("pk", flat=True)[:DEEPEST])


class SpanFilter(admin.SimpleListFilter):
    """Newest rows by time, told by the id of the first row in the span: ids are what the list is ordered by."""

    title = "time"
    parameter_name = "within"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(key, name) for key, (name, _) in SPANS.items()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[UsageEvent]) -> QuerySet[UsageEvent]:
        if self.value() not in SPANS:
            return queryset
        since = timezone.now() - timedelta(hours=SPANS[str(self.value())][1])
        rows = UsageEvent.objects.filter(created_at__gte=since).order_by("created_at")
        first = rows.values_list("pk", flat=True).first()
        return queryset.none() if first is None else queryset.filter(pk__gte=first)


class ProviderFilter(admin.SimpleListFilter):
    title = "provider"
    parameter_name = "provider"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(str(pk), name) for pk, name in Provider.objects.values_list("pk", "name")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[UsageEvent]) -> QuerySet[UsageEvent]:
        value = str(self.value() or "")
        return queryset.filter(provider_id=int(value)) if value.isdecimal() and int(value) <= BIGGEST_ID else queryset


class StatusFilter(admin.ChoicesFieldListFilter):
    """Says of what went wrong that it did not go well, as its index wants it: `gateway.models.usage.not_ok`."""

    def queryset(self, request: HttpRequest, queryset: QuerySet[UsageEvent]) -> QuerySet[UsageEvent] | None:
        wanted = set(self.lookup_val or ())
        if wanted and UsageEvent.Status.OK not in wanted:
            queryset = queryset.exclude(status=UsageEvent.Status.OK)
        return super().queryset(request, queryset)


class UserFilter(admin.SimpleListFilter):
    """A field instead of a list: there may be thousands of users."""

    title = "user"
    parameter_name = "user"
    template = "admin/gateway/usageevent/user_filter.html"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("", "")]

    def choices(self, changelist: Any) -> Any:
        kept = [(name, text) for name, text in changelist.get_filters_params().items() if name != self.parameter_name]
        pairs = [(name, item) for name, text in kept for item in (text if isinstance(text, list) else [text])]
        yield {"kept": pairs, "value": self.value() or "", "reset": changelist.get_query_string(remove=["user"])}

    def queryset(self, request: HttpRequest, queryset: QuerySet[UsageEvent]) -> QuerySet[UsageEvent]:
        value = str(self.value() or "").strip()
        if not value:
            return queryset
        if value.isdecimal() and int(value) <= BIGGEST_ID:
            return queryset.filter(user_id=int(value))
        found = get_user_model().objects.filter(username=value).values_list("pk", flat=True).first()
        return queryset.none() if found is None else queryset.filter(user_id=found)


@admin.register(UsageEvent)
class UsageEventAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ("when", "who", "served_by", "model", "outcome", "tokens", "first_word", "took", "spent", "surface")
    list_display_links = ("when",)
    list_filter = (SpanFilter, ("status", StatusFilter), ProviderFilter, "stream", UserFilter)
    list_per_page = PER_PAGE
    list_max_show_all = 0
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    paginator = BoundedPaginator
    deepest = DEEPEST
    search_fields = ("request_id",)
    ordering = ("-id",)
    sortable_by = ()
    actions = None
    fields = (
        "request_id", "created_at", "outcome", "error_code", "who", "key", "provider_name", "model", "requested_model",
        "surface", "stream", "prompt_tokens", "completion_tokens", "cached_tokens", "reasoning_tokens", "characters",
        "audio_seconds", "images", "estimated", "spent", "rate", "first_word", "took", "tried",
    )  # fmt: skip
    readonly_fields = fields

    def get_queryset(self, request: HttpRequest) -> QuerySet[UsageEvent]:
        # The join gives None for users that are gone: no constraint keeps them.
        return super().get_queryset(request).select_related("user")

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        return super().changelist_view(request, {"title": "Usage", **(extra_context or {})})

    def get_search_results(self, request: HttpRequest, queryset: Any, search_term: str) -> tuple[Any, bool]:
        term = search_term.strip()
        # The whole id, so that the unique index answers.
        return (queryset.filter(request_id=term[:40]) if term else queryset), False

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    @admin.display(description="Time (UTC)")
    def when(self, row: UsageEvent) -> str:
        return f"{row.created_at:%d %b, %H:%M:%S}".lstrip("0")

    @admin.display(description="User")
    def who(self, row: UsageEvent) -> Any:
        if row.user is None:
            return "–"
        url = f"{reverse('admin:gateway_usageevent_changelist')}?user={row.user_id}"
        return format_html('<a href="{}">{}</a>', url, row.user.get_username())

    @admin.display(description="API key")
    def key(self, row: UsageEvent) -> str:
        found = ApiKey.objects.filter(pk=row.api_key_id).first() if row.api_key_id else None
        return str(found) if found else "–"

    @admin.display(description="Outcome")
    def outcome(self, row: UsageEvent) -> SafeString:
        word = (
            row.get_status_display().capitalize()
            if row.status != "error"
            else f"{row.http_status} {row.error_code}".strip()
        )
        return format_html(
            '<span class="state"><span class="lamp {}" aria-hidden="true"></span>{}</span>',
            LAMPS.get(row.status, "off"),
            word,
        )

    @admin.display(description="Tokens, in / out")
    def tokens(self, row: UsageEvent) -> str:
        mark = "≈ " if row.estimated else ""
        return f"{mark}{number(row.prompt_tokens)} / {number(row.completion_tokens)}"

    @admin.display(description="Provider", ordering="provider_name")
    def served_by(self, row: UsageEvent) -> str:
        return row.provider_name or "–"

    @admin.display(description="First word")
    def first_word(self, row: UsageEvent) -> str:
        return seconds(row.first_token_ms)

    @admin.display(description="Took")
    def took(self, row: UsageEvent) -> str:
        return seconds(row.duration_ms)

    @admin.display(description="Cost")
    def spent(self, row: UsageEvent) -> str:
        return UNKNOWN if row.cost is None and row.prompt_tokens is not None else dollars(row.cost)

    @admin.display(description="Price")
    def rate(self, row: UsageEvent) -> str:
        price = Price.objects.filter(pk=row.price_id).first() if row.price_id else None
        return f"{dollars(price.input)} in, {dollars(price.output)} out, per million" if price else UNKNOWN

    @admin.display(description="Attempts")
    def tried(self, row: UsageEvent) -> Any:
        attempts = [item for item in row.attempts if isinstance(item, dict)] if isinstance(row.attempts, list) else []
        lines = ((f"{item.get('provider', '')}/{item.get('model', '')}", _result(item)) for item in attempts)
        drawn = format_html_join("", "<li><b>{}</b> {}</li>", lines)
        return format_html('<ol class="attempts">{}</ol>', drawn) if attempts else "–"


def _result(attempt: dict[str, Any]) -> str:
    if attempt.get("cached"):
        return "an answer that was kept"
    failed = f"{attempt['status']} {attempt.get('code') or ''}".strip() if attempt.get("status") else "answered"
    return f"{failed}, {attempt.get('ms', 0)} ms"
