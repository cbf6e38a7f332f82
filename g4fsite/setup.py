"""The one-time link of a first start: from this machine only, once, within fifteen minutes."""

from __future__ import annotations

import secrets
from contextlib import suppress
from typing import Any

from django import forms
from django.contrib.auth import get_user_model, login, password_validation
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import DatabaseError, transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.decorators import method_decorator
from django.utils.translation import gettext, gettext_lazy
from django.views import View
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters

from g4fsite.models import SetupToken
from gateway.models.keys import digest_of
from gateway.network import is_loopback
from gateway.snapshot import store

BACKEND = "django.contrib.auth.backends.ModelBackend"
FORWARDING_HEADERS = ("HTTP_FORWARDED", "HTTP_X_FORWARDED_FOR", "HTTP_X_REAL_IP")


def make_setup_link(user: User | None = None) -> str:
    """The path of a fresh link that sets `user`'s password, or makes the first superuser. Older links end."""
    token = secrets.token_urlsafe(32)
    with transaction.atomic():
        SetupToken.objects.filter(user=user).delete()
        SetupToken.objects.create(user=user, digest=digest_of(token.encode()).hex())
    return reverse("setup", args=[token])


def is_local(request: HttpRequest) -> bool:
    """True for a client on this machine itself. Whatever came through a proxy may be from anywhere."""
    if any(request.META.get(header) for header in FORWARDING_HEADERS):
        return False
    return is_loopback(request.META.get("REMOTE_ADDR") or "")


def link_of(token: str) -> SetupToken | None:
    """The link if it can still be used."""
    row = SetupToken.objects.select_related("user").filter(digest=digest_of(token.encode()).hex()).first()
    if row is None or not row.usable():
        return None
    # The link for the first superuser is void as soon as there is anybody.
    return None if row.user is None and get_user_model().objects.exists() else row


class PasswordForm(forms.Form):
    """Sets a password; without a user it asks for a name too."""

    username = forms.CharField(
        label=gettext_lazy("User name"),
        max_length=150,
        widget=forms.TextInput(attrs={"autocomplete": "username", "autocapitalize": "none", "spellcheck": "false"}),
    )
    password = forms.CharField(
        label=gettext_lazy("Password"), strip=False, widget=forms.PasswordInput(attrs={"autocomplete": "new-password"})
    )
    again = forms.CharField(
        label=gettext_lazy("The same again"),
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
    )

    def __init__(self, *args: Any, user: User | None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.user: Any = user or get_user_model()(is_staff=True, is_superuser=True)
        self.fields["password"].help_text = " ".join(password_validation.password_validators_help_texts())
        if user:
            del self.fields["username"]

    def clean_username(self) -> str:
        self.user.username = self.cleaned_data["username"]
        try:
            self.user.clean_fields(exclude=["password"])
        except ValidationError as error:
            raise ValidationError(error.message_dict.get("username", error.messages)) from None
        return str(self.user.username)

    def clean(self) -> dict[str, Any]:
        given = super().clean() or {}
        password, again = given.get("password"), given.get("again")
        if password and again and password != again:
            self.add_error("again", gettext("The two do not match."))
        elif password:
            self._check(password)
        return given

    def _check(self, password: str) -> None:
        try:
            password_validation.validate_password(password, self.user)
        except ValidationError as error:
            self.add_error("password", error)

    def save(self) -> Any:
        self.user.set_password(self.cleaned_data["password"])
        self.user.save()
        return self.user


def refused(request: HttpRequest) -> HttpResponse:
    response = render(request, "setup/refused.html", status=403)
    # Django would log the path, and with it the token.
    response.__dict__["_has_been_logged"] = True
    return response


@method_decorator([never_cache, sensitive_post_parameters()], name="dispatch")
class SetupView(View):
    def get(self, request: HttpRequest, token: str) -> HttpResponse:
        row = link_of(token) if is_local(request) else None
        return self._page(request, row, PasswordForm(user=row.user)) if row else refused(request)

    def post(self, request: HttpRequest, token: str) -> HttpResponse:
        row = link_of(token) if is_local(request) else None
        if row is None:
            return refused(request)
        form = PasswordForm(request.POST, user=row.user)
        if not form.is_valid():
            return self._page(request, row, form)
        with transaction.atomic():
            user = form.save() if row.take() else None
        if user is None:
            return refused(request)
        login(request, user, backend=BACKEND)
        # Until the configuration knows of a user, the admin answers that there is none.
        with suppress(DatabaseError):
            store.reload()
        return HttpResponseRedirect(reverse("setup_provider"))

    def _page(self, request: HttpRequest, row: SetupToken, form: PasswordForm) -> HttpResponse:
        return render(request, "setup/setup.html", {"form": form, "person": row.user})
