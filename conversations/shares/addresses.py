"""Pictures in a shared chat: whoever reads it may see those of its owner, and gets signed addresses for them."""

from __future__ import annotations

import re
from html import escape

from media.links import signed_url
from media.models import StoredFile

# An address of a file of ours, whatever stands before it and whether or not it was signed before.
FILE = re.compile(
    r"(?:https?://[^\s/()\"'<>\\]+)?/(media|images|thumbnail)/([A-Za-z0-9_.-]{1,200})(?:\?[^\s()\"'<>\\]*)?"
)
IN_HTML = re.compile(r' src="/(media|images|thumbnail)/([A-Za-z0-9_.-]{1,200})"')
MOST = 500


class Signer:
    """For one text and what is made of it: its owner's files that it names, found by one query."""

    def __init__(self, text: str, owner_id: int, base: str) -> None:
        """`base`: where addresses begin; empty for a page of this server."""
        names = list(dict.fromkeys(found[2] for found in FILE.finditer(text)))[:MOST]
        files = StoredFile.objects.filter(owner_id=owner_id, name__in=names) if names else ()
        self._files = {stored.name: stored for stored in files}
        self._base = base

    @property
    def signs(self) -> bool:
        """Whether what it makes is over after a while."""
        return bool(self._files)

    def text(self, text: str) -> str:
        """With addresses that work for a while; those of others' files stay as they are."""
        return FILE.sub(lambda found: self._address(found) or found[0], text) if self._files else text

    def html(self, html: str) -> str:
        """The same for pictures of a page. A picture that nobody may see leads nowhere."""
        return IN_HTML.sub(lambda found: f' src="{escape(self._address(found))}"', html)

    def url(self, url: str) -> str:
        """Empty for what is no file of the owner's."""
        found = FILE.fullmatch(url)
        return self._address(found) if found else ""

    def _address(self, found: re.Match[str]) -> str:
        stored = self._files.get(found[2])
        return "" if stored is None else signed_url(stored, self._base, path=f"/{found[1]}/{stored.name}")
