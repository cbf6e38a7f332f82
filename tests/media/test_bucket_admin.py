"""Staff see whose buckets there are and why a file could not be read, and may delete them; contents stay private."""

from __future__ import annotations

import io
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from media import buckets
from media.models import Bucket, Document


@pytest.mark.django_db(transaction=True)
def test_buckets_are_looked_at_and_deleted(client: Client, alice: User, charlie: User, stored_paths: Any) -> None:
    files = [buckets.Incoming("a.txt", io.BytesIO(b"planted")), buckets.Incoming("b.csv", io.BytesIO(b"x,y\n1,2\n"))]
    buckets.add(alice.pk, "my <bucket>", files)
    Document.objects.filter(label="b.csv").update(state="failed", error="It is <odd>.")
    client.force_login(charlie)
    page = client.get("/admin/media/bucket/").content.decode()
    assert "my &lt;bucket&gt;" in page
    assert "alice" in page
    bucket = Bucket.objects.get()
    page = client.get(f"/admin/media/bucket/{bucket.pk}/change/").content.decode()
    assert "a.txt" in page
    assert "It is &lt;odd&gt;." in page
    assert "planted" not in page
    assert client.get("/admin/media/bucket/add/").status_code == 403
    assert client.post(f"/admin/media/bucket/{bucket.pk}/delete/", {"post": "yes"}).status_code == 302
    assert (Bucket.objects.count(), stored_paths()) == (0, [])
    client.force_login(alice)
    assert client.get("/admin/media/bucket/").status_code == 302
