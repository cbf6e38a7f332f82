"""API keys in the admin: made by a form, shown once, then only named, changed, rotated or revoked."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.auth import get_user_model
from django.core.exceptions import PermissionDenied
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from gateway.admin.fields import ListField
from gateway.models import ApiKey
from gateway.models.keys import SURFACES, check_cidrs, check_names

GRACE = timedelta(hours=24)
MOST_AT_ONCE = 50
AMOUNTS = ("requests_per_minute", "tokens_per_minute", "max_streams")
ANSWERS = ("cache_answers",)
SURFACE_NAMES = {"v1": "/v1", "api": "/api", "backend": "/backend-api"}
LAMPS = {"active": "ok", "not yet valid": "warn"}


class ApiKeyForm(forms.ModelForm):  # type: ignore[type-arg]
    surfaces = forms.MultipleChoiceField(
        choices=[(name, SURFACE_NAMES[name]) for name in SURFACES],
        required=False,
        widget=forms.CheckboxSelectMultiple,
        help_text="None ticked: all.",
    )
    models = ListField(
        validators=[check_names], help_text="Model ids or aliases it may ask for, one a line. Empty: all."
    )
    networks = ListField(validators=[check_cidrs], help_text="Addresses or networks it may be used from. Empty: any.")

    class Meta:
        model = ApiKey
        fields = ("user", "name", "surfaces", "models", "networks", "valid_from", "expires_at", *AMOUNTS, *ANSWERS)


class StateFilter(admin.SimpleListFilter):
    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("live", "Not revoked"), ("revoked", "Revoked")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> QuerySet[ApiKey]:
        if self.value() in ("live", "revoked"):
            return queryset.filter(revoked_at__isnull=self.value() == "live")
        return queryset


@admin.register(ApiKey)
class ApiKeyAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    form = ApiKeyForm
    list_display = ("name", "beginning", "user", "state", "expires_at", "last_used_at", "created_at")
    list_select_related = ("user",)
    list_filter = (StateFilter,)
    search_fields = ("name", "prefix", "user__username")
    autocomplete_fields = ("user",)
    actions = ("revoke_selected", "rotate_selected")
    change_form_template = "admin/gateway/apikey/change_form.html"
    fieldsets = (
        (None, {"fields": ("user", "name")}),
        ("Limits", {"fields": ("models", "surfaces", "networks", ("valid_from", "expires_at"), AMOUNTS)}),
        ("Answers", {"fields": ANSWERS}),
    )

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        return super().changelist_view(request, {"title": "API keys", **(extra_context or {})})

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        if obj is None:
            return self.fieldsets
        seen = ("Key", {"fields": ("beginning", "state", "last_used_at", "created_at", "revoked_at", "replaces")})
        return (*self.fieldsets, seen)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        fixed = ("beginning", "state", "last_used_at", "created_at", "revoked_at", "replaces")
        return (*fixed, "user") if obj else fixed

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name == "user":
            kwargs["queryset"] = self._users(request)
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_change_permission(request, obj) and self._reaches(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_delete_permission(request, obj) and self._reaches(request, obj)

    def _reaches(self, request: HttpRequest, row: ApiKey | None) -> bool:
        return row is None or self._users(request).filter(pk=row.user_id).exists()

    def _users(self, request: HttpRequest) -> QuerySet[Any]:
        """A key carries the rights of its user, so who is not a superuser touches none of other staff."""
        users = get_user_model().objects.all()
        if getattr(request.user, "is_superuser", False):
            return users
        return users.filter(Q(is_staff=False, is_superuser=False) | Q(pk=request.user.pk))

    @admin.display(description="Begins with", ordering="prefix")
    def beginning(self, row: ApiKey) -> SafeString:
        return format_html("<code>{}…</code>", row.prefix)

    @admin.display(description="State")
    def state(self, row: ApiKey) -> SafeString:
        word = row.state()
        return format_html(
            '<span class="state"><span class="lamp {}" aria-hidden="true"></span>{}</span>',
            LAMPS.get(word, "off"),
            word.capitalize(),
        )

    def save_model(self, request: HttpRequest, obj: ApiKey, form: Any, change: bool) -> None:
        if change:
            super().save_model(request, obj, form, change)
            return
        given = {name: form.cleaned_data[name] for name in self.form.Meta.fields if name not in ("user", "name")}
        row, plain = ApiKey.make(obj.user, obj.name, **given)
        # The form's own instance becomes the row, so that history and inlines speak of it.
        vars(obj).update(vars(row))
        request.made_key = plain  # type: ignore[attr-defined]

    def response_add(self, request: HttpRequest, obj: ApiKey, post_url_continue: str | None = None) -> HttpResponse:
        return self._shown_once(request, [(obj, request.made_key)])  # type: ignore[attr-defined]

    def _shown_once(self, request: HttpRequest, made: list[tuple[ApiKey, str]], grace: bool = False) -> HttpResponse:
        """The only answer that holds a key; nothing keeps it afterwards."""
        context = {
            **self.admin_site.each_context(request),
            "title": "Your new API key" if len(made) == 1 else "Your new API keys",
            "opts": self.opts,
            "made": made,
            "grace": grace,
        }
        response = TemplateResponse(request, "admin/gateway/apikey/shown_once.html", context)
        response["Cache-Control"] = "no-store"
        return response

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        return [
            path("<int:pk>/rotate/", wrap(self.rotate_view), name="gateway_apikey_rotate"),
            path("<int:pk>/revoke/", wrap(self.revoke_view), name="gateway_apikey_revoke"),
            *super().get_urls(),
        ]

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        row = self.get_object(request, object_id)
        context = {
            **(extra_context or {}),
            "may_rotate": row is not None and self._may_rotate(request, row),
            "may_revoke": row is not None and not row.revoked_at and self.has_change_permission(request, row),
        }
        return super().change_view(request, object_id, form_url, context)

    def _may_rotate(self, request: HttpRequest, row: ApiKey) -> bool:
        """Rotating makes a key, so it asks for what making one asks for."""
        allowed = self.has_change_permission(request, row) and self.has_add_permission(request)
        return allowed and row.state() == "active"

    def rotate_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        row = get_object_or_404(ApiKey.objects.select_related("user"), pk=pk)
        back = reverse("admin:gateway_apikey_change", args=[pk])
        if not self.has_change_permission(request, row) or not self.has_add_permission(request):
            raise PermissionDenied
        if request.method != "POST":
            return HttpResponseRedirect(back)
        if not self._may_rotate(request, row):
            messages.error(request, f"{row} cannot be rotated: it is {row.state()}.")
            return HttpResponseRedirect(back)
        return self._shown_once(request, [self._rotate(request, row)], grace=True)

    def _rotate(self, request: HttpRequest, row: ApiKey) -> tuple[ApiKey, str]:
        made, plain = row.rotate(GRACE)
        self.log_change(request, row, f"Rotated: {made.prefix}… takes its place.")
        self.log_addition(request, made, f"Made by rotating {row.prefix}….")
        return made, plain

    def revoke_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        row = get_object_or_404(ApiKey, pk=pk)
        if not self.has_change_permission(request, row):
            raise PermissionDenied
        if request.method == "POST":
            self._revoke(request, row)
            messages.success(request, f"{row} is revoked. Servers stop taking it within five seconds.")
        return HttpResponseRedirect(reverse("admin:gateway_apikey_change", args=[pk]))

    def _revoke(self, request: HttpRequest, row: ApiKey) -> None:
        if row.revoked_at is None:
            row.revoke()
            self.log_change(request, row, "Revoked.")

    @admin.action(description="Revoke", permissions=["change"])
    def revoke_selected(self, request: HttpRequest, rows: QuerySet[ApiKey]) -> None:
        live = list(rows.filter(revoked_at=None, user__in=self._users(request)))
        for row in live:
            self._revoke(request, row)
        messages.success(request, f"{len(live)} revoked. Servers stop taking them within five seconds.")

    @admin.action(description="Rotate (the old key goes on for 24 hours)", permissions=["change", "add"])
    def rotate_selected(self, request: HttpRequest, rows: QuerySet[ApiKey]) -> HttpResponse | None:
        able = [row for row in rows.select_related("user")[:MOST_AT_ONCE] if self._may_rotate(request, row)]
        if not able:
            messages.warning(request, "None of these keys can be rotated by you: only active ones can.")
            return None
        return self._shown_once(request, [self._rotate(request, row) for row in able], grace=True)
