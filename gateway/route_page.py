"""The admin's page that says where a request would go."""

from __future__ import annotations

from typing import Any

from django import forms
from django.http import HttpRequest

from gateway.authentication import ANONYMOUS, Principal
from gateway.explain import Explanation, Question, Step, explain, told_cost
from gateway.models import ApiKey
from gateway.snapshot import Snapshot, store


class RouteForm(forms.Form):
    """What a caller would ask, and who asks."""

    model = forms.CharField(max_length=200, required=False, strip=True)
    provider = forms.ChoiceField(required=False)
    key = forms.ModelChoiceField(ApiKey.objects.none(), required=False, empty_label="anyone")
    stream = forms.BooleanField(required=False, label="streamed")

    def __init__(self, data: Any, snapshot: Snapshot, *, keys: bool) -> None:
        super().__init__(data)
        choices = [("", "any"), *((item.name, item.label) for item in snapshot.providers)]
        self.fields["provider"] = forms.ChoiceField(choices=choices, required=False)
        if keys:
            rows = ApiKey.objects.select_related("user").filter(revoked_at=None)
            self.fields["key"] = forms.ModelChoiceField(rows, required=False, empty_label="anyone")
        else:
            del self.fields["key"]


def may_explain(request: HttpRequest) -> bool:
    return request.user.has_perm("gateway.view_provider") or request.user.has_perm("gateway.change_provider")


def route_context(request: HttpRequest) -> dict[str, Any]:
    """The form, and the explanation when something was asked."""
    snapshot = store.current
    keys = request.user.has_perm("gateway.view_apikey")
    asked = "model" in request.GET
    form = RouteForm(request.GET if asked else None, snapshot, keys=keys)
    found = _explained(snapshot, form.cleaned_data) if asked and form.is_valid() else None
    steps = [_cells(step) for step in found.steps] if found else []
    return {"form": form, "found": found, "steps": steps, "names": sorted({*snapshot.aliases, *snapshot.by_model})}


def _explained(snapshot: Snapshot, data: dict[str, Any]) -> Explanation:
    key: ApiKey | None = data.get("key")
    principal = ANONYMOUS
    if key is not None:
        policy = snapshot.keys_by_id.get(key.pk)
        principal = Principal(key.user_id, key.user.get_username(), key.user.is_staff, policy)
    provider = data["provider"] or None
    return explain(snapshot, Question(data["model"], principal, provider, key, stream=data["stream"], live=True))


def _cells(step: Step) -> tuple[Step, str, str, str]:
    context = "–" if step.context_length is None else f"{step.context_length:,}"
    return step, context, told_cost(step), _abilities(step.flags)


def _abilities(flags: dict[str, bool]) -> str:
    said = [name if value else f"no {name}" for name, value in flags.items()]
    return ", ".join(said) or "–"
