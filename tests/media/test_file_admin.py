"""Files in the admin: found and deleted by who may, looked into by nobody but their owners."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

from media.errors import QuotaExceeded
from media.models import Quota, StoredFile
from media.store import keep
from tests.people import person

pytestmark = pytest.mark.django_db(transaction=True)
LIST = "/admin/media/storedfile/"
MARK = "marked-prompt-of-alices"


@pytest.fixture
def photo(alice: User, picture: Any, stored_paths: Any) -> StoredFile:
    data = picture("JPEG", (900, 600))
    return keep(alice.pk, data, label="holiday.jpg", source="generated", prompt=MARK, provider="Rack", model="m-1")


@pytest.fixture
def admin(client: Client, charlie: User) -> Client:
    client.force_login(charlie)
    return client


def test_files_are_found_and_not_looked_into(admin: Client, photo: StoredFile, alice: User) -> None:
    for query in ("", "?q=holiday", "?q=alice", "?kind=image", "?source=generated", "?kind=x"):
        page = admin.get(LIST + query).content.decode()
        assert "holiday.jpg" in page, query
        assert "/thumbnail/" not in page
        assert MARK not in page
    for query in ("?q=other", "?kind=audio", "?source=upload"):
        assert "holiday.jpg" not in admin.get(LIST + query).content.decode()
    page = admin.get(f"{LIST}{photo.pk}/change/").content.decode()
    assert "900 × 600" in page
    assert MARK not in page
    assert "/media/" not in page.replace("/admin/media/", "")
    assert photo.blob.path not in page
    assert photo.name not in page
    # Of what is not shown there is no line either.
    assert "field-preview" not in page


def test_ones_own_pictures_are_shown(admin: Client, charlie: User, picture: Any, photo: StoredFile) -> None:
    own = keep(charlie.pk, picture(), label="mine.png", source="upload")
    page = admin.get(LIST).content.decode()
    assert page.count('class="preview"') == 1
    assert f'src="/thumbnail/{own.name}"' in page
    shown = admin.get(f"/thumbnail/{own.name}")
    assert shown.status_code == 200
    shown.close()
    assert admin.get(f"/thumbnail/{photo.name}").status_code == 404
    assert "field-preview" in admin.get(f"{LIST}{own.pk}/change/").content.decode()


def test_deleting_takes_the_bytes_along(admin: Client, photo: StoredFile, alice: User, stored_paths: Any) -> None:
    other = keep(alice.pk, b"words", label="a.txt", source="upload")
    keep(alice.pk, b"others", label="b.txt", source="upload")
    assert admin.post(f"{LIST}{photo.pk}/delete/", {"post": "yes"}).status_code == 302
    assert len(stored_paths()) == 2
    chosen = {"action": "delete_selected", "_selected_action": [str(other.pk)], "post": "yes"}
    assert admin.post(LIST, chosen).status_code == 302
    assert len(stored_paths()) == StoredFile.objects.count() == 1


@pytest.mark.parametrize("chosen", ["1", "x", "1" * 40, "' OR 1=1", "\x00"])
def test_rows_that_are_none_are_400(admin: Client, photo: StoredFile, chosen: str) -> None:
    answer = admin.post(LIST, {"action": "delete_selected", "_selected_action": [chosen], "post": "yes"})
    assert answer.status_code == 400
    assert admin.get(f"{LIST}{chosen.strip(chr(0)) or 'x'}/change/").status_code in (302, 404)
    assert admin.get(f"{LIST}?bucket__id__exact={chosen}").status_code in (200, 302, 400)
    assert StoredFile.objects.count() == 1


def test_nothing_is_made_or_changed_here(admin: Client, photo: StoredFile) -> None:
    assert admin.get(f"{LIST}add/").status_code == 403
    assert admin.post(f"{LIST}{photo.pk}/change/", {"label": "other"}).status_code == 403
    photo.refresh_from_db()
    assert photo.label == "holiday.jpg"


def test_staff_need_the_permission_and_reach_nobody_above_them(
    client: Client, photo: StoredFile, charlie: User, stored_paths: Any
) -> None:
    dora = person("dora", is_staff=True)
    client.force_login(dora)
    assert client.get(LIST).status_code == 403
    dora.user_permissions.set(Permission.objects.filter(codename__in=("view_storedfile", "delete_storedfile")))
    boss = keep(charlie.pk, b"words", label="boss.txt", source="upload")
    assert client.post(f"{LIST}{boss.pk}/delete/", {"post": "yes"}).status_code == 403
    client.post(LIST, {"action": "delete_selected", "_selected_action": [str(boss.pk)], "post": "yes"})
    assert StoredFile.objects.filter(pk=boss.pk).exists()
    assert client.post(f"{LIST}{photo.pk}/delete/", {"post": "yes"}).status_code == 302
    assert not StoredFile.objects.filter(pk=photo.pk).exists()


def test_a_user_is_deleted_with_all_files(admin: Client, photo: StoredFile, alice: User, stored_paths: Any) -> None:
    assert admin.post(f"/admin/auth/user/{alice.pk}/delete/", {"post": "yes"}).status_code == 302
    assert not User.objects.filter(pk=alice.pk).exists()
    assert stored_paths() == []


def test_a_users_quota_is_set_beside_the_limits(admin: Client, photo: StoredFile, alice: User) -> None:
    path = f"/admin/auth/user/{alice.pk}/change/"
    page = admin.get(path).content.decode()
    assert "in 1 file" in page
    form = admin.get(path).context["adminform"].form
    given = {name: form[name].value() for name in ("username", "email")} | {"is_active": "on"}
    given |= {"date_joined_0": "2026-01-01", "date_joined_1": "00:00:00", "last_login_0": "", "last_login_1": ""}
    given |= {"limits-TOTAL_FORMS": "0", "limits-INITIAL_FORMS": "0"}
    given |= {"conversation_limits-TOTAL_FORMS": "0", "conversation_limits-INITIAL_FORMS": "0"}
    given |= {"media_quota-TOTAL_FORMS": "1", "media_quota-INITIAL_FORMS": "1", "media_quota-0-user": str(alice.pk)}
    given |= {"media_quota-0-max_bytes": "", "media_quota-0-max_files": "1"}
    assert admin.post(path, given).status_code == 302
    assert Quota.objects.get(user=alice).max_files == 1
    with pytest.raises(QuotaExceeded):
        keep(alice.pk, b"words", label="a.txt", source="upload")
