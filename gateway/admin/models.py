"""Models with what they can do and cost, and aliases as ordered lists of them."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import Prefetch, QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from gateway.admin.fields import NANO, DollarsField
from gateway.models import CAPABILITIES, EMULATIONS, AliasTarget, ModelAlias, Price, ProviderModel
from gateway.portable import AMOUNTS

FLAGS_NOTE = "Unknown is passed to the provider as it is; only “No” refuses a request."
EMULATION_NOTE = (
    "The first two cost tokens and are less certain than what a model can by itself. “Same answer again” keeps each "
    "answer for its caller alone, for ANSWER_CACHE_SECONDS."
)
EMULATED = {
    "emulate_tools": "tools by prompt",
    "emulate_json": "JSON by prompt",
    "think_tags": "<think>",
    "cache_answers": "answers kept",
}


class PriceForm(forms.ModelForm):  # type: ignore[type-arg]
    input = DollarsField(label="Input", help_text="$ per million")
    cached_input = DollarsField(label="Cached input", required=False)
    output = DollarsField(label="Output", help_text="$ per million")
    reasoning = DollarsField(label="Reasoning", required=False)
    image = DollarsField(label="Pictures", required=False)
    audio_second = DollarsField(label="Seconds of sound", required=False)
    character = DollarsField(label="Characters", required=False)

    class Meta:
        model = Price
        fields = (*AMOUNTS, "valid_from", "valid_to", "source")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["valid_from"].initial = timezone.now


class PriceInline(admin.TabularInline):  # type: ignore[type-arg]
    model = Price
    form = PriceForm
    extra = 0
    verbose_name_plural = "Prices in dollars per million tokens, pictures, seconds or characters"


@admin.register(ProviderModel)
class ProviderModelAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    inlines = (PriceInline,)
    list_display = ("public_id", "provider", "enabled", "can", "context", "price")
    list_editable = ("enabled",)
    list_filter = (
        *("enabled", "provider", "chat", "vision", "tools", "reasoning"),
        *("image", "speech", "transcription", "embeddings"),
    )
    list_select_related = ("provider",)
    list_per_page = 100
    search_fields = ("public_id", "upstream_name", "provider__name")
    autocomplete_fields = ("provider",)
    ordering = ("provider__priority", "id")
    actions = ("switch_on", "switch_off")
    fieldsets = (
        (None, {"fields": ("provider", "public_id", "upstream_name", "enabled", "context_length")}),
        ("Limits for all callers together", {"fields": (("requests_per_minute", "tokens_per_minute", "max_streams"),)}),
        (
            "What it can do",
            {
                "fields": (CAPABILITIES[:3], CAPABILITIES[3:6], CAPABILITIES[6:9], CAPABILITIES[9:]),
                "description": FLAGS_NOTE,
            },
        ),
        ("What the gateway does instead", {"fields": (EMULATIONS,), "description": EMULATION_NOTE}),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[ProviderModel]:
        return super().get_queryset(request).prefetch_related(Prefetch("prices", Price.objects.order_by("-valid_from")))

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        return super().changelist_view(request, {"title": "Models", **(extra_context or {})})

    @admin.display(description="Can")
    def can(self, row: ProviderModel) -> str:
        known = [name for name in CAPABILITIES if getattr(row, name)]
        refused = [f"no {name}" for name in CAPABILITIES if getattr(row, name) is False]
        emulated = [text for name, text in EMULATED.items() if getattr(row, name)]
        return ", ".join([*known, *refused, *emulated]) or "unknown"

    @admin.display(description="Context", ordering="context_length")
    def context(self, row: ProviderModel) -> str:
        return f"{row.context_length:,}" if row.context_length else "–"

    @admin.display(description="Price, in / out")
    def price(self, row: ProviderModel) -> str:
        now = timezone.now()
        for price in row.prices.all():
            if price.valid_from <= now and (price.valid_to is None or price.valid_to > now):
                return f"${float(price.input / NANO):,g} / ${float(price.output / NANO):,g}"
        return "unknown"

    @admin.action(description="Switch on", permissions=["change"])
    def switch_on(self, request: HttpRequest, rows: QuerySet[ProviderModel]) -> None:
        self._switch(request, rows, True)

    @admin.action(description="Switch off", permissions=["change"])
    def switch_off(self, request: HttpRequest, rows: QuerySet[ProviderModel]) -> None:
        self._switch(request, rows, False)

    def _switch(self, request: HttpRequest, rows: QuerySet[ProviderModel], enabled: bool) -> None:
        changed = [row for row in rows if row.enabled is not enabled]
        for row in changed:
            row.enabled = enabled
            row.save()
        self.message_user(request, f"{len(changed)} switched {'on' if enabled else 'off'}.")


class AliasTargetInline(admin.TabularInline):  # type: ignore[type-arg]
    model = AliasTarget
    extra = 1
    autocomplete_fields = ("model",)
    fields = ("position", "model", "weight")
    ordering = ("position", "id")
    verbose_name_plural = "Targets, tried in this order"


@admin.register(ModelAlias)
class ModelAliasAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    inlines = (AliasTargetInline,)
    list_display = ("name", "chain", "enabled")
    list_editable = ("enabled",)
    search_fields = ("name",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[ModelAlias]:
        targets = AliasTarget.objects.select_related("model__provider").order_by("position", "id")
        return super().get_queryset(request).prefetch_related(Prefetch("targets", targets))

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        return super().changelist_view(request, {"title": "Aliases", **(extra_context or {})})

    @admin.display(description="Targets in order")
    def chain(self, row: ModelAlias) -> str:
        return " → ".join(str(target.model) for target in row.targets.all()) or "none yet"
