"""The second step of a first start: a provider that is asked before it is kept. The third is the chat itself."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from django import forms
from django.conf import settings
from django.contrib.auth.mixins import UserPassesTestMixin
from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.decorators import method_decorator
from django.utils.translation import gettext, gettext_lazy, ngettext
from django.views import View
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters

from gateway import operations
from gateway.discovery import DiscoveryFailed, LocalServer, find_local_servers
from gateway.models import AliasTarget, ModelAlias, Provider, ProviderModel
from gateway.operations import NewProvider, Refused
from gateway.presets import presets
from gateway.snapshot import store

OTHER = "other"
# Those that most people have a key of; the admin has all.
OFFERED = {
    "openai": gettext_lazy("Key from platform.openai.com"),
    "anthropic": gettext_lazy("Key from console.anthropic.com"),
    "gemini": gettext_lazy("Key from AI Studio"),
    "openrouter": gettext_lazy("Many models, one key"),
    "ollama": gettext_lazy("Runs on your machine, no key"),
}


class FirstProviderForm(forms.Form):
    """Which provider, where it is if that is not known, and its key."""

    provider = forms.ChoiceField(choices=[(key, key) for key in (*OFFERED, OTHER)], initial="openai")
    address = forms.CharField(
        label=gettext_lazy("Address"),
        required=False,
        max_length=500,
        help_text=gettext_lazy(
            "Up to and including the version, such as http://127.0.0.1:8000/v1. For OpenAI’s protocol."
        ),
        widget=forms.URLInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
    )
    key = forms.CharField(
        label=gettext_lazy("API key"),
        required=False,
        strip=True,
        max_length=10_000,
        help_text=gettext_lazy("Encrypted on this server. Nobody can read it back, not even you."),
        widget=forms.PasswordInput(attrs={"autocomplete": "off"}),
    )

    def __init__(self, *args: Any, found: list[LocalServer], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.found = {server.preset: server for server in found}
        for server in found:
            self.fields["provider"].choices += [(server.preset, server.preset)]  # type: ignore[attr-defined]
        if found:
            self.fields["provider"].initial = found[0].preset

    def cards(self) -> Iterator[dict[str, Any]]:
        """What there is to choose from; servers that run on this machine come first."""
        chosen = self["provider"].value()
        for server in self.found.values():
            about = ngettext("Runs here, %(count)d model", "Runs here, %(count)d models", server.models)
            yield self._card(server.preset, server.label, about % {"count": server.models}, chosen)
        for key, hint in OFFERED.items():
            if key not in self.found:
                yield self._card(key, presets()[key].title.removeprefix("Google "), str(hint), chosen)
        yield self._card(OTHER, gettext("Something else"), gettext("Any OpenAI-compatible address"), chosen)

    def _card(self, key: str, name: str, about: str, chosen: Any) -> dict[str, Any]:
        letters = "··" if key == OTHER else presets()[key].symbol.capitalize()
        return {"key": key, "name": name, "about": about, "symbol": letters, "chosen": key == chosen}

    def clean(self) -> dict[str, Any]:
        given = super().clean() or {}
        key = given.get("provider")
        preset = presets().get(str(key))
        if key == OTHER and not given.get("address"):
            self.add_error("address", gettext("Say where it is."))
        if preset and preset.auth_style != "none" and not given.get("key"):
            self.add_error("key", gettext("Paste the key that the provider gave you."))
        return given

    def wanted(self) -> NewProvider:
        """The provider to make; it answers nobody until it was asked."""
        key, secret = self.cleaned_data["provider"], self.cleaned_data["key"]
        if key == OTHER:
            address = self.cleaned_data["address"].rstrip("/")
            fields = {"adapter": "openai_chat", "base_url": address, "enabled": False}
            return NewProvider(_host(address) or "Provider", fields, None, secret)
        preset = presets()[key]
        base_url = self.found[key].base_url if key in self.found else preset.base_url
        return NewProvider(preset.name, {"base_url": base_url, "enabled": False}, preset, secret, preset.models)


def _host(address: str) -> str:
    """As a provider's name; empty where there is none, of which the row's own check says why."""
    try:
        host = urlsplit(address).hostname or ""
    except ValueError:
        return ""
    return re.sub(r"[^A-Za-z0-9.-]", "", host).strip(".-")[:64]


def connect(wanted: NewProvider) -> tuple[ProviderModel, int, int]:
    """Makes the provider, reads its models and asks one: that model, its milliseconds, how many models there are.

    Nothing is kept of one that does not answer. Raises ValidationError, Refused or DiscoveryFailed.
    """
    row, _ = operations.add_provider(wanted)
    try:
        _read_models(row)
        model, took = operations.first_answer(row)
        with transaction.atomic():
            row.enabled = True
            row.default_model = model.public_id
            operations.save_checked(row)
            _make_default(model)
    except BaseException:
        row.delete()
        raise
    return model, took, row.models.count()


def _read_models(row: Provider) -> None:
    try:
        operations.sync_models(row)
    except DiscoveryFailed as failure:
        # Some have no list, but a model that the preset knows.
        if not failure.no_list or not row.default_model:
            raise
    if row.default_model and not row.models.exists():
        ProviderModel.objects.create(provider=row, public_id=row.default_model, chat=True)


def _make_default(model: ProviderModel) -> None:
    """Requests that name no model go to it, and the chat page begins with it."""
    alias, made = ModelAlias.objects.get_or_create(name="default")
    if made:
        AliasTarget.objects.create(alias=alias, model=model)


@method_decorator([never_cache, sensitive_post_parameters()], name="dispatch")
class FirstProviderView(UserPassesTestMixin, View):
    """For the administrator, until there is a provider; afterwards the admin has a place for it."""

    def test_func(self) -> bool:
        return bool(self.request.user.is_superuser)

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        if request.user.is_authenticated and self.test_func() and _is_connected():
            return HttpResponseRedirect(_chat())
        return super().dispatch(request, *args, **kwargs)

    def get(self, request: HttpRequest) -> HttpResponse:
        return self._page(request, FirstProviderForm(found=find_local_servers()))

    def post(self, request: HttpRequest) -> HttpResponse:
        form = FirstProviderForm(request.POST, found=find_local_servers())
        if not form.is_valid():
            return self._page(request, form)
        try:
            model, took, count = connect(form.wanted())
        except ValidationError as error:
            form.add_error(None, operations.sentence(error))
        except (Refused, DiscoveryFailed) as failure:
            form.add_error(None, f"{failure} " + gettext("Nothing was kept. Check it and try again."))
        else:
            # The chat is to know of it at once.
            store.reload()
            return self._page(request, form, model=model, seconds=took / 1000, count=count, chat=_chat())
        return self._page(request, form)

    def _page(self, request: HttpRequest, form: FirstProviderForm, **more: Any) -> HttpResponse:
        return render(request, "setup/provider.html", {"form": form, "chat": _chat(), **more})


def _is_connected() -> bool:
    return Provider.objects.exclude(adapter="demo").exists()


def _chat() -> str:
    return reverse("chat") if settings.GUI else reverse("admin:index")
