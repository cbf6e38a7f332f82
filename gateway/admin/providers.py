"""Providers in the admin: made from presets, with write-only credentials, tested and synchronised from their page."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import Count, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.views.decorators.debug import sensitive_post_parameters

from gateway import operations
from gateway.adapters import ADAPTERS
from gateway.admin.fields import PairsField, TolerantForm
from gateway.discovery import DiscoveryFailed
from gateway.engines.extras import missing_speech
from gateway.models import Credential, Provider
from gateway.models.providers import check_headers
from gateway.network import check_base_url
from gateway.presets import PLACEHOLDER, Preset, presets
from gateway.provider_state import State, credential_state, provider_states
from gateway.secrets import SecretUnreadable

ADAPTER_NAMES = {"openai_chat": "OpenAI chat completions", "local": "On this server", "demo": "Demo (made-up answers)"}
ELSEWHERE = (
    "With this the stored credentials would be sent elsewhere or in another way. "
    "Only who may change credentials may change it."
)
# Each may take ten seconds and more to answer.
MOST_AT_ONCE = 20


def lamp(state: State) -> SafeString:
    return format_html(
        '<span class="state"><span class="lamp {}" aria-hidden="true"></span>{}</span>', state.lamp, state.word
    )


def origin(url: str) -> tuple[str, str, int | None] | str:
    """Whom a URL leads to; the URL itself where that cannot be told."""
    try:
        parts = urlsplit(url)
        port = parts.port or {"https": 443, "http": 80}.get(parts.scheme)
    except ValueError:
        return url
    return parts.scheme, (parts.hostname or "").rstrip("."), port


class CredentialForm(forms.ModelForm):  # type: ignore[type-arg]
    """Takes a secret and never shows one."""

    new_secret = forms.CharField(
        label="New secret",
        required=False,
        strip=True,
        max_length=10_000,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password", "class": "vTextField"}),
    )

    class Meta:
        model = Credential
        fields = ("label", "enabled")

    def clean_new_secret(self) -> str:
        plain = self.cleaned_data["new_secret"]
        if plain:
            self.instance.set_secret(plain)
        elif not self.instance.secret:
            raise ValidationError("Paste the secret that the provider gave you.")
        # What is kept is encrypted in the row; nobody else needs it.
        return ""


class CredentialInline(admin.TabularInline):  # type: ignore[type-arg]
    model = Credential
    form = CredentialForm
    fields = ("label", "ends", "new_secret", "enabled")
    readonly_fields = ("ends",)
    verbose_name_plural = "Credentials"

    def get_extra(self, request: HttpRequest, obj: Any = None, **kwargs: Any) -> int:
        return 0 if obj is not None and obj.credentials.exists() else 1

    @admin.display(description="Stored")
    def ends(self, row: Credential) -> str:
        if not row.pk:
            return "–"
        try:
            row.secret.reveal()
        except SecretUnreadable:
            return "cannot be decrypted: paste it again"
        return f"ends in {row.tail}" if row.tail else "yes"


class ProviderForm(TolerantForm):
    # Set by the admin for each request.
    may_change_credentials = False

    adapter = forms.ChoiceField(
        choices=lambda: [(name, ADAPTER_NAMES.get(name, name)) for name in ADAPTERS],
        help_text="The wire protocol it speaks.",
    )
    headers = PairsField(
        mark=":",
        validators=[check_headers],
        help_text="Sent with each request, one “Name: value” a line. No credentials.",
    )
    query = PairsField(
        mark="=", help_text="Appended to each URL, one “name=value” a line, such as api-version=2024-10-21."
    )

    class Meta:
        model = Provider
        exclude = ("preset",)
        labels = {"base_url": "Base URL", "docs_url": "Documentation", "auth_style": "Sends its credential as"}
        widgets = {"base_url": forms.TextInput(attrs={"class": "vLargeTextField", "spellcheck": "false"})}

    def clean_base_url(self) -> str:
        url = str(self.cleaned_data["base_url"])
        if holes := PLACEHOLDER.findall(url):
            raise ValidationError(f"Replace {{{holes[0]}}} by the name of yours.")
        return url

    def clean(self) -> dict[str, Any]:
        given = super().clean() or {}
        if given.get("proxy") and {"proxy", "allow_private"} & set(self.changed_data):
            self._check_proxy(given["proxy"], bool(given.get("allow_private")))
        if self.instance.pk and not self.may_change_credentials and self.instance.credentials.exists():
            for name in self._leads_elsewhere(given):
                self.add_error(name, ELSEWHERE)
        return given

    def _check_proxy(self, proxy: str, allow_private: bool) -> None:
        """The model lets the operator's own commands name any proxy; here a private one needs the tick."""
        try:
            host = urlsplit(proxy).hostname or ""
            if host:
                check_base_url(f"https://[{host}]" if ":" in host else f"https://{host}", allow_private=allow_private)
        except ValidationError as error:
            self.add_error("proxy", error.messages)
        except ValueError:
            # The model's own check says what is wrong with it.
            return

    def _leads_elsewhere(self, given: dict[str, Any]) -> list[str]:
        """The changed fields by which a stored credential would reach somebody else, or show itself elsewhere."""
        changed: list[str] = [name for name in ("proxy", "auth_style", "auth_name") if name in self.changed_data]
        if given.get("allow_private") and not self.instance.allow_private:
            changed.append("allow_private")
        if "base_url" in given and origin(given["base_url"]) != origin(self.instance.base_url):
            changed.append("base_url")
        return [name for name in changed if name in self.fields]


class LiveList(ChangeList):
    """Adds to each row what its last requests say."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        states = provider_states(self.result_list)
        for row in self.result_list:
            row.live_state = states[row.pk]


@admin.register(Provider)
class ProviderAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    form = ProviderForm
    inlines = (CredentialInline,)
    list_display = ("name", "state", "enabled", "priority", "model_count", "protocol", "where")
    list_editable = ("enabled", "priority")
    search_fields = ("name", "label", "base_url")
    ordering = ("priority", "id")
    actions = ("test_selected", "sync_selected", "switch_on", "switch_off")
    change_form_template = "admin/gateway/provider/change_form.html"
    fieldsets = (
        (None, {"fields": ("name", "label", "adapter", "base_url", "allow_private", "enabled")}),
        ("Routing", {"fields": ("priority", "weight", "default_model"), "classes": ("collapse",)}),
        (
            "Requests",
            {
                "fields": (
                    "auth_style",
                    "auth_name",
                    "headers",
                    "query",
                    "proxy",
                    "asks_usage",
                    "completions",
                    "fetch_media",
                ),
                "classes": ("collapse",),
            },
        ),
        (
            "Timeouts",
            {
                "fields": ("connect_timeout", "timeout", "first_event_timeout", "gap_timeout"),
                "classes": ("collapse",),
            },
        ),
        ("On this server", {"fields": ("gguf", "gguf_context"), "classes": ("collapse",)}),
        ("Documentation", {"fields": ("docs_url",), "classes": ("collapse",)}),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Provider]:
        rows: QuerySet[Provider] = super().get_queryset(request)
        return rows.prefetch_related("credentials").annotate(models_in_all=Count("models"))

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        return super().changelist_view(request, {"title": "Providers", **(extra_context or {})})

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return LiveList

    def get_changelist_form(self, request: HttpRequest, **kwargs: Any) -> Any:
        return super().get_changelist_form(request, **{"form": TolerantForm, **kwargs})

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        form: Any = super().get_form(request, obj, change, **kwargs)
        form.may_change_credentials = request.user.has_perm("gateway.change_credential")
        return form

    @admin.display(description="State")
    def state(self, row: Any) -> SafeString:
        return lamp(row.live_state)

    @admin.display(description="Models")
    def model_count(self, row: Any) -> SafeString:
        url = f"{reverse('admin:gateway_providermodel_changelist')}?provider__id__exact={row.pk}"
        return format_html('<a href="{}">{}</a>', url, row.models_in_all)

    @admin.display(description="Protocol", ordering="adapter")
    def protocol(self, row: Provider) -> str:
        return ADAPTER_NAMES.get(row.adapter, row.adapter)

    @admin.display(description="Base URL", ordering="base_url")
    def where(self, row: Provider) -> str:
        return row.base_url or "this server"

    def _preset(self, request: HttpRequest) -> Preset | None:
        found = presets().get(request.GET.get("preset", ""))
        return found if found and found.adapter else None

    def get_changeform_initial_data(self, request: HttpRequest) -> Any:
        preset = self._preset(request)
        if preset is None:
            return super().get_changeform_initial_data(request)
        return {**preset.provider_fields(), "name": preset.name, "base_url": preset.base_url}

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        context = {"presets": presets().values(), "chosen": self._preset(request), **(extra_context or {})}
        return super().add_view(request, form_url, context)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        row = self.get_object(request, object_id)
        context = {**(extra_context or {})}
        if row is not None:
            context |= {
                "live_state": provider_states([row])[row.pk],
                "may_test": self.has_change_permission(request, row),
                "may_sync": self._may_sync(request),
                "is_local": operations.is_local(row) and not row.gguf,
            }
        return super().change_view(request, object_id, form_url, context)

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        # An error report must not hold what was typed as a secret.
        return sensitive_post_parameters()(super().changeform_view)(request, *args, **kwargs)

    def save_model(self, request: HttpRequest, obj: Provider, form: Any, change: bool) -> None:
        preset = self._preset(request)
        if not change and preset:
            obj.preset = preset.key
        super().save_model(request, obj, form, change)

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        super().save_related(request, form, formsets, change)
        row, preset = form.instance, self._preset(request)
        if not change and preset:
            for spec in preset.models:
                operations.put_model(row, spec)
        self._hint(request, row)

    def _hint(self, request: HttpRequest, row: Provider) -> None:
        """Says at once what would only show when the first request fails."""
        fresh = Provider.objects.get(pk=row.pk)
        if fresh.auth_style == Provider.Auth.NONE and fresh.credentials.exists():
            messages.warning(request, f"{fresh} sends no credential, because its auth style is “None”.")
        elif fresh.adapter == "local" and not fresh.gguf and (missing := missing_speech()):
            messages.warning(request, f"{fresh}: {missing}")
        elif fresh.enabled and (wrong := credential_state(fresh)):
            messages.warning(request, f"{fresh}: {wrong.word.lower()}. {wrong.detail}".strip())

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        return [
            path("<int:pk>/test/", wrap(self.test_view), name="gateway_provider_test"),
            path("<int:pk>/sync/", wrap(self.sync_view), name="gateway_provider_sync"),
            *super().get_urls(),
        ]

    def _may_sync(self, request: HttpRequest) -> bool:
        return self.has_change_permission(request) and request.user.has_perm("gateway.add_providermodel")

    def test_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        row = get_object_or_404(Provider, pk=pk)
        if not self.has_change_permission(request, row):
            raise PermissionDenied
        if request.method == "POST":
            self._test(request, row)
        return HttpResponseRedirect(reverse("admin:gateway_provider_change", args=[pk]))

    def sync_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        row = get_object_or_404(Provider, pk=pk)
        if not self._may_sync(request):
            raise PermissionDenied
        if request.method == "POST":
            self._sync(request, row)
        return HttpResponseRedirect(reverse("admin:gateway_provider_change", args=[pk]))

    def _test(self, request: HttpRequest, row: Provider) -> None:
        try:
            results = operations.test_provider(row)
        except operations.Refused as refusal:
            messages.warning(request, str(refusal))
            return
        for result in results:
            whose = f"{row}, {result.credential}" if len(results) > 1 else str(row)
            if result.connection is None:
                messages.error(request, f"{whose} did not answer as hoped. {result.problem}")
            else:
                found = result.connection
                what = f"{found.answered} answered" if found.answered else f"{found.models:,} models listed"
                messages.success(request, f"{whose} works: {what} after {found.milliseconds} ms.")

    def _sync(self, request: HttpRequest, row: Provider) -> None:
        try:
            report = operations.sync_models(row)
        except (operations.Refused, DiscoveryFailed) as refusal:
            messages.error(request, f"Nothing was changed at {row}. {refusal}")
            return
        parts = [f"{len(report.added):,} added", f"{len(report.updated):,} updated", f"{report.unchanged:,} unchanged"]
        if report.gone:
            parts.append(f"{len(report.gone):,} no longer listed (left as they are)")
        if report.skipped:
            parts.append(f"{len(report.skipped):,} with unusable names left out")
        text = f"Models synchronised: {', '.join(parts)}."
        self.log_change(request, row, text)
        messages.success(request, f"{row}: {text}")

    @admin.action(description="Test connection", permissions=["change"])
    def test_selected(self, request: HttpRequest, rows: QuerySet[Provider]) -> None:
        for row in rows[:MOST_AT_ONCE]:
            self._test(request, row)

    @admin.action(description="Sync models", permissions=["change"])
    def sync_selected(self, request: HttpRequest, rows: QuerySet[Provider]) -> None:
        if not self._may_sync(request):
            raise PermissionDenied
        for row in rows[:MOST_AT_ONCE]:
            self._sync(request, row)

    @admin.action(description="Switch on", permissions=["change"])
    def switch_on(self, request: HttpRequest, rows: QuerySet[Provider]) -> None:
        self._switch(request, rows, True)

    @admin.action(description="Switch off", permissions=["change"])
    def switch_off(self, request: HttpRequest, rows: QuerySet[Provider]) -> None:
        self._switch(request, rows, False)

    def _switch(self, request: HttpRequest, rows: QuerySet[Provider], enabled: bool) -> None:
        changed = [row for row in rows if row.enabled is not enabled]
        for row in changed:
            row.enabled = enabled
            row.save()
            self.log_change(request, row, "Switched on." if enabled else "Switched off.")
        messages.success(request, f"{len(changed)} switched {'on' if enabled else 'off'}.")
