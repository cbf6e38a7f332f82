"""Providers in the admin: presets, write-only credentials, tests and synchronising over a real socket."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.test import Client

from gateway.models import AliasTarget, Credential, ModelAlias, Price, Provider, ProviderModel
from gateway.secrets import Secret
from tests.people import person
from tests.support.provider import ScriptedProvider

pytestmark = pytest.mark.django_db
SECRET = "sk-marked-secret-0123456789-tail"
LIST = "/admin/gateway/provider/"


@pytest.fixture
def admin(client: Client, charlie: User) -> Client:
    client.force_login(charlie)
    return client


@contextmanager
def refusing() -> Iterator[str]:
    """A server that answers 401 and repeats the credential it was sent."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps({"error": {"message": f"bad key: {self.headers['authorization']}"}}).encode()
            self.send_response(401)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    server.server_close()


def staff(client: Client, *permissions: str) -> Client:
    user = person("dora", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client.force_login(user)
    return client


def provider(name: str = "One", secret: str = SECRET, **fields: Any) -> Provider:
    row = Provider.objects.create(name=name, **{"adapter": "openai_chat", "base_url": "https://a.example/v1", **fields})
    if secret:
        credential = Credential(provider=row, label="main")
        credential.set_secret(secret)
        credential.save()
    return row


def form(**changes: Any) -> dict[str, Any]:
    """What the browser sends for a provider's form with one empty credential row."""
    values = {
        "name": "One", "label": "", "adapter": "openai_chat", "base_url": "https://a.example/v1", "enabled": "on",
        "priority": "", "weight": "1", "default_model": "", "auth_style": "bearer", "auth_name": "", "headers": "",
        "query": "", "proxy": "", "asks_usage": "on", "connect_timeout": "5", "timeout": "", "first_event_timeout": "",
        "gap_timeout": "", "docs_url": "", "credentials-TOTAL_FORMS": "1", "credentials-INITIAL_FORMS": "0",
        "credentials-0-label": "", "credentials-0-new_secret": "", "credentials-0-enabled": "on",
    }  # fmt: skip
    return values | changes


def test_a_preset_fills_in_the_form(admin: Client) -> None:
    page = admin.get(f"{LIST}add/?preset=groq").content.decode()
    assert 'value="https://api.groq.com/openai/v1"' in page
    assert admin.get(f"{LIST}add/?preset=nonsense").status_code == 200


def test_a_provider_is_made_from_a_preset(admin: Client) -> None:
    given = form(name="Groq", base_url="https://api.groq.com/openai/v1", **{"credentials-0-new_secret": SECRET})
    assert admin.post(f"{LIST}add/?preset=groq", given)["Location"] == LIST
    row = Provider.objects.get()
    assert (row.preset, row.models.filter(public_id="openai/gpt-oss-120b").count()) == ("groq", 1)
    assert row.credentials.get().secret.reveal() == SECRET


def test_the_secret_is_on_no_page_and_in_no_history(admin: Client) -> None:
    admin.post(f"{LIST}add/", form(**{"credentials-0-new_secret": SECRET}))
    row = Provider.objects.get()
    for path in ("", f"{row.pk}/change/", f"{row.pk}/history/", f"{row.pk}/delete/"):
        page = admin.get(LIST + path).content.decode()
        assert SECRET not in page
        assert row.credentials.get().secret.token not in page
    assert "ends in tail" in admin.get(f"{LIST}{row.pk}/change/").content.decode()
    assert not any(SECRET in entry.change_message + entry.object_repr for entry in LogEntry.objects.all())


def test_a_refused_form_does_not_give_the_secret_back(admin: Client) -> None:
    page = admin.post(f"{LIST}add/", form(name="", **{"credentials-0-new_secret": SECRET}))
    assert page.status_code == 200
    assert SECRET not in page.content.decode()


def test_saving_without_a_new_secret_keeps_the_old_one(admin: Client) -> None:
    row = provider()
    kept = {
        "credentials-INITIAL_FORMS": "1",
        "credentials-0-id": str(row.credentials.get().pk),
        "credentials-0-label": "x",
    }
    assert admin.post(f"{LIST}{row.pk}/change/", form(priority="7", **kept)).status_code == 302
    credential = row.credentials.get()
    assert (credential.label, credential.secret.reveal()) == ("x", SECRET)
    admin.post(
        f"{LIST}{row.pk}/change/", form(priority="7", **kept, **{"credentials-0-new_secret": "sk-another-0123456789"})
    )
    assert row.credentials.get().secret.reveal() == "sk-another-0123456789"


def test_a_credential_needs_a_secret(admin: Client) -> None:
    page = admin.post(f"{LIST}add/", form(**{"credentials-0-label": "main"})).content.decode()
    assert "Paste the secret" in page
    assert (
        "plain ASCII" in admin.post(f"{LIST}add/", form(**{"credentials-0-new_secret": "schlüssel"})).content.decode()
    )
    assert not Provider.objects.exists()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"base_url": "http://127.0.0.1:11434/v1"}, "This is a private address."),
        ({"base_url": "http://169.254.169.254/latest"}, "This is a private address."),
        ({"base_url": "https://user:pw@a.example/v1"}, "not into the URL"),
        ({"base_url": "https://{resource}.openai.azure.com/openai/v1"}, "Replace {resource}"),
        ({"base_url": ""}, "required"),
        ({"base_url": "javascript:alert(1)"}, "must look like"),
        ({"headers": "X-A: one\rX-B: two"}, "without CR, LF or NUL"),
        ({"headers": "Authorization: Bearer x"}, "Authorization is set by the gateway"),
        ({"headers": "no colon"}, "Write one on each line"),
        ({"query": "novalue"}, "Write one on each line"),
        ({"adapter": "nonsense"}, "not one of the available choices"),
        ({"name": "a b"}, "Use letters, digits"),
        ({"auth_style": "header"}, "Name the header"),
        ({"proxy": "ftp://x"}, "must look like"),
        ({"docs_url": "javascript:alert(1)"}, "Enter a valid URL"),
        ({"weight": "0"}, "greater than or equal to 1"),
        ({"priority": "99999999999999999999"}, "less than or equal to"),
    ],
)
def test_what_is_wrong_is_said(admin: Client, changes: dict[str, str], says: str) -> None:
    page = admin.post(f"{LIST}add/", form(**changes))
    assert page.status_code == 200
    assert says in page.content.decode().replace("&#x27;", "'")
    assert not Provider.objects.exists()


def test_private_addresses_are_allowed_by_a_tick(admin: Client) -> None:
    admin.post(f"{LIST}add/", form(base_url="http://127.0.0.1:11434/v1", allow_private="on", auth_style="none"))
    assert Provider.objects.get().allow_private


def test_headers_and_query_are_written_line_by_line(admin: Client) -> None:
    admin.post(f"{LIST}add/", form(headers="X-A: one: 1\r\nX-B:two", query="api-version=2024-10-21"))
    row = Provider.objects.get()
    assert row.headers == {"X-A": "one: 1", "X-B": "two"}
    assert row.query == {"api-version": "2024-10-21"}
    assert "X-A: one: 1\nX-B: two" in admin.get(f"{LIST}{row.pk}/change/").content.decode()


def test_a_missing_credential_is_pointed_out(admin: Client) -> None:
    page = admin.post(f"{LIST}add/", form(), follow=True).content.decode()
    assert "no credential" in page
    assert "No credential" in page


def test_a_credential_that_is_not_sent_is_pointed_out(admin: Client) -> None:
    given = form(auth_style="none", **{"credentials-0-new_secret": SECRET})
    assert "sends no credential" in admin.post(f"{LIST}add/", given, follow=True).content.decode()


def test_an_unreadable_credential_is_pointed_out(admin: Client) -> None:
    row = provider()
    row.credentials.update(secret=Secret("of another server"))
    assert "cannot be decrypted" in admin.get(f"{LIST}{row.pk}/change/").content.decode()
    assert "Credential unreadable" in admin.get(LIST).content.decode()


def test_priority_and_switch_are_changed_in_the_list(admin: Client) -> None:
    row = provider()
    rows = {
        "form-TOTAL_FORMS": "1",
        "form-INITIAL_FORMS": "1",
        "form-0-id": str(row.pk),
        "form-0-priority": "3",
        "_save": "Save",
    }
    assert admin.post(LIST, rows).status_code == 302
    row.refresh_from_db()
    assert (row.enabled, row.priority) == (False, 3)


def test_a_row_that_became_invalid_is_an_error_not_a_crash(admin: Client) -> None:
    row = provider()
    Provider.objects.update(adapter="gone", base_url="http://10.0.0.1/v1")
    rows = {
        "form-TOTAL_FORMS": "1",
        "form-INITIAL_FORMS": "1",
        "form-0-id": str(row.pk),
        "form-0-priority": "3",
        "_save": "Save",
    }
    page = admin.post(LIST, rows)
    assert page.status_code == 200
    assert "Unknown adapter" in page.content.decode()


def test_the_connection_is_tested_and_models_synchronised(admin: Client) -> None:
    with ScriptedProvider(models=["alpha", "org/beta"]) as scripted:
        row = provider(base_url=scripted.base_url, allow_private=True)
        page = admin.post(f"{LIST}{row.pk}/test/", follow=True).content.decode()
        assert "One works: 2 models listed" in page
        page = admin.post(f"{LIST}{row.pk}/sync/", follow=True).content.decode()
        assert "2 added" in page
        assert scripted.requests[0].header("authorization") == f"Bearer {SECRET}"
    assert set(row.models.values_list("public_id", flat=True)) == {"alpha", "org/beta"}
    assert LogEntry.objects.filter(change_message__contains="2 added").exists()


def test_what_the_provider_says_against_it_is_shown_without_the_secret(admin: Client) -> None:
    with refusing() as base_url:
        row = provider(base_url=base_url, allow_private=True)
        page = admin.post(f"{LIST}{row.pk}/test/", follow=True).content.decode()
        assert "did not answer as hoped" in page
        assert SECRET not in page
        page = admin.post(f"{LIST}{row.pk}/sync/", follow=True).content.decode()
        assert "Nothing was changed at One." in page
        assert SECRET not in page


def test_actions_work_on_many(admin: Client) -> None:
    with ScriptedProvider(models=["alpha"]) as scripted:
        rows = [provider(name, base_url=scripted.base_url, allow_private=True) for name in ("One", "Two")]
        chosen = {"_selected_action": [str(row.pk) for row in rows]}
        assert "Two works" in admin.post(LIST, {"action": "test_selected", **chosen}, follow=True).content.decode()
        admin.post(LIST, {"action": "sync_selected", **chosen})
        assert ProviderModel.objects.count() == 2
    admin.post(LIST, {"action": "switch_off", **chosen})
    assert not Provider.objects.filter(enabled=True).exists()
    admin.post(LIST, {"action": "switch_on", **chosen})
    assert Provider.objects.filter(enabled=True).count() == 2


def test_a_provider_without_credential_or_network_says_so(admin: Client) -> None:
    bare, demo = provider(secret=""), provider("Demo", secret="", adapter="demo", base_url="", auth_style="none")
    assert "has no credential" in admin.post(f"{LIST}{bare.pk}/test/", follow=True).content.decode()
    assert "nothing to ask" in admin.post(f"{LIST}{demo.pk}/sync/", follow=True).content.decode()
    assert "Test connection</button>" not in admin.get(f"{LIST}{demo.pk}/change/").content.decode()


def test_tests_and_syncs_are_posted_with_a_token(admin: Client, charlie: User) -> None:
    row = provider()
    assert admin.get(f"{LIST}{row.pk}/test/").status_code == 302
    assert admin.get(f"{LIST}{row.pk}/sync/").status_code == 302
    assert admin.post(f"{LIST}999/test/").status_code == 404
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(charlie)
    assert strict.post(f"{LIST}{row.pk}/test/").status_code == 403


def test_staff_without_the_permission_get_403_and_change_nothing(client: Client) -> None:
    row = provider()
    staff(client, "view_usageevent")
    for path in ("", "add/", f"{row.pk}/change/", f"{row.pk}/delete/"):
        assert client.get(LIST + path).status_code == 403
    for path in ("add/", f"{row.pk}/change/", f"{row.pk}/test/", f"{row.pk}/sync/"):
        assert client.post(LIST + path, form(**{"credentials-0-new_secret": SECRET})).status_code == 403
    assert (Provider.objects.count(), Credential.objects.count()) == (1, 1)


def test_forged_inline_rows_are_ignored(client: Client) -> None:
    row = provider()
    staff(client, "view_provider", "change_provider")
    client.post(f"{LIST}{row.pk}/change/", form(priority="1", **{"credentials-0-new_secret": "sk-forged-0123456789"}))
    assert Credential.objects.count() == 1
    assert client.post(f"{LIST}{row.pk}/sync/").status_code == 403


def test_viewers_see_and_change_nothing(client: Client) -> None:
    row = provider()
    staff(client, "view_provider")
    page = client.get(f"{LIST}{row.pk}/change/").content.decode()
    assert "Test connection</button>" not in page
    assert client.post(f"{LIST}{row.pk}/change/", form(name="New")).status_code == 403


def stored_form(row: Provider, **changes: Any) -> dict[str, Any]:
    kept = {"credentials-INITIAL_FORMS": "1", "credentials-0-id": str(row.credentials.get().pk)}
    return form(priority="1", **kept) | changes


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("base_url", {"base_url": "https://b.example/v1"}),
        ("base_url", {"base_url": "https://a.example:8443/v1"}),
        ("proxy", {"proxy": "http://proxy.example:8080"}),
        ("auth_style", {"auth_style": "none"}),
        ("auth_name", {"auth_name": "X-Key"}),
        ("allow_private", {"allow_private": "on"}),
    ],
)
def test_a_stored_credential_is_led_elsewhere_only_by_who_may_change_it(
    client: Client, name: str, changes: dict[str, str]
) -> None:
    row = provider()
    before = Provider.objects.values().get()
    staff(client, "change_provider")
    secret = {"credentials-0-new_secret": "sk-forged-0123456789"}
    page = client.post(f"{LIST}{row.pk}/change/", stored_form(row, **changes, **secret))
    assert page.status_code == 200
    assert set(page.context["adminform"].form.errors) == {name}
    assert "Only who may change credentials" in page.content.decode()
    assert Provider.objects.values().get() == before
    User.objects.get().user_permissions.add(Permission.objects.get(codename="change_credential"))
    assert client.post(f"{LIST}{row.pk}/change/", stored_form(row, **changes)).status_code == 302


def test_what_leads_nowhere_else_stays_open_to_staff(client: Client) -> None:
    row = provider()
    staff(client, "change_provider")
    changes = {"base_url": "https://A.example:443/v2", "label": "First"}
    assert client.post(f"{LIST}{row.pk}/change/", stored_form(row, **changes)).status_code == 302
    bare = provider("Two", secret="")
    assert client.post(f"{LIST}{bare.pk}/change/", form(name="Two", base_url="https://b.example")).status_code == 302


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "localhost", "10.1.2.3", "2130706433", "169.254.169.254"])
def test_a_private_proxy_needs_the_tick(admin: Client, host: str) -> None:
    page = admin.post(f"{LIST}add/", form(proxy=f"http://{host}:3128"))
    assert page.status_code == 200
    assert set(page.context["adminform"].form.errors) == {"proxy"}
    assert not Provider.objects.exists()


def test_a_private_proxy_is_allowed_by_the_tick(admin: Client) -> None:
    given = form(proxy="http://user:pw@[::1]:3128", allow_private="on")
    assert admin.post(f"{LIST}add/", given).status_code == 302
    assert admin.post(f"{LIST}add/", form(name="Two", proxy="http://proxy.example:3128")).status_code == 302


def test_a_proxy_that_the_operator_set_does_not_stop_other_changes(admin: Client) -> None:
    row = provider(secret="", proxy="http://127.0.0.1:3128")
    given = form(proxy="http://127.0.0.1:3128", label="First", priority="1")
    assert admin.post(f"{LIST}{row.pk}/change/", given).status_code == 302


@pytest.mark.parametrize("chosen", ["abc", "", "-1", "9" * 30, "\u0663"])
@pytest.mark.parametrize(
    ("path", "action"),
    [
        ("gateway/provider", "switch_on"),
        ("gateway/providermodel", "switch_off"),
        ("gateway/apikey", "revoke_selected"),
        ("gateway/modelalias", "delete_selected"),
        ("auth/user", "delete_selected"),
    ],
)
def test_a_senseless_choice_is_refused(admin: Client, path: str, action: str, chosen: str) -> None:
    answer = admin.post(f"/admin/{path}/", {"action": action, "_selected_action": chosen})
    assert answer.status_code == 400


@pytest.mark.parametrize("field", ["credentials", "models", "nonsense", "name"])
def test_a_senseless_reference_is_refused(admin: Client, field: str) -> None:
    row = provider()
    for path in ("", "add/", f"{row.pk}/change/"):
        assert admin.get(f"{LIST}{path}?_to_field={field}").status_code == 400
    assert admin.get(f"{LIST}?_to_field=id&_popup=1").status_code == 200


@pytest.mark.parametrize("query", ["name__regex=(", "created_at__year=99999999", "id__in=99999999999999999999999"])
def test_a_senseless_query_is_no_crash(admin: Client, query: str) -> None:
    provider()
    assert admin.get(f"{LIST}?{query}").status_code in (200, 302, 400)


def test_models_have_flags_and_prices_in_dollars(admin: Client) -> None:
    row = provider()
    model = ProviderModel.objects.create(provider=row, public_id="m")
    given = {
        "provider": str(row.pk), "public_id": "m", "upstream_name": "", "enabled": "on", "chat": "true",
        "vision": "false",
        "tools": "unknown", "context_length": "", "prices-TOTAL_FORMS": "1", "prices-INITIAL_FORMS": "0",
        "prices-0-input": "0.15", "prices-0-output": "0.6", "prices-0-valid_from_0": "2026-01-01",
        "prices-0-valid_from_1": "00:00",
    }  # fmt: skip
    path = f"/admin/gateway/providermodel/{model.pk}/change/"
    assert admin.post(path, given).status_code == 302
    model.refresh_from_db()
    price = Price.objects.get()
    assert (model.chat, model.vision, model.tools, price.input, price.output) == (
        True,
        False,
        None,
        150_000_000,
        600_000_000,
    )
    assert 'value="0.15"' in admin.get(path).content.decode()
    page = admin.get("/admin/gateway/providermodel/").content.decode()
    assert "$0.15 / $0.6" in page
    assert "no vision" in page
    for bad in ("-1", "NaN", "1e400", "x"):
        assert admin.post(path, given | {"prices-0-input": bad}).status_code == 200


def test_prices_do_not_change_by_saving_the_page(admin: Client) -> None:
    row = provider()
    model = ProviderModel.objects.create(provider=row, public_id="m")
    page_price = Price.objects.create(model=model, input=1_234_567_891, output=0, valid_from="2026-01-01T00:00Z")
    given = {
        "provider": str(row.pk), "public_id": "m", "upstream_name": "m", "enabled": "on", "prices-TOTAL_FORMS": "1",
        "prices-INITIAL_FORMS": "1", "prices-0-id": str(page_price.pk), "prices-0-input": "1.234567891",
        "prices-0-output": "0",
        "prices-0-cached_input": "", "prices-0-valid_from_0": "2026-01-01", "prices-0-valid_from_1": "00:00:00",
    }  # fmt: skip
    admin.post(f"/admin/gateway/providermodel/{model.pk}/change/", given)
    assert Price.objects.get().input == 1_234_567_891
    assert not LogEntry.objects.filter(change_message__contains="nput").exists()


def test_models_are_switched_in_bulk_and_found(admin: Client) -> None:
    row = provider()
    models = [ProviderModel.objects.create(provider=row, public_id=name) for name in ("a", "b")]
    path = "/admin/gateway/providermodel/"
    admin.post(path, {"action": "switch_off", "_selected_action": [str(model.pk) for model in models]})
    assert not ProviderModel.objects.filter(enabled=True).exists()
    admin.post(path, {"action": "switch_on", "_selected_action": [str(models[0].pk)]})
    assert ProviderModel.objects.filter(enabled=True).count() == 1
    found = admin.get("/admin/autocomplete/?app_label=gateway&model_name=aliastarget&field_name=model&term=b").json()
    assert [item["text"] for item in found["results"]] == ["One/b"]


def test_aliases_are_ordered_lists(admin: Client) -> None:
    row = provider()
    models = [ProviderModel.objects.create(provider=row, public_id=name) for name in ("a", "b")]
    given: dict[str, Any] = {
        "name": "default",
        "enabled": "on",
        "targets-TOTAL_FORMS": "2",
        "targets-INITIAL_FORMS": "0",
    }
    for index, model in enumerate(reversed(models)):
        given |= {
            f"targets-{index}-model": str(model.pk),
            f"targets-{index}-position": str(index),
            f"targets-{index}-weight": "1",
        }
    assert admin.post("/admin/gateway/modelalias/add/", given).status_code == 302
    assert AliasTarget.objects.count() == 2
    assert "One/b → One/a" in admin.get("/admin/gateway/modelalias/").content.decode()
    given |= {"name": "twice", "targets-1-model": given["targets-0-model"]}
    assert admin.post("/admin/gateway/modelalias/add/", given).status_code == 200
    assert ModelAlias.objects.count() == 1
