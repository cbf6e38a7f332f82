"""The chat page's words in the reader's language.

`manage.py makemessages -d djangojs` collects them from the scripts (`_` and `ngettext` of `i18n.js`).
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from django.conf import settings
from django.utils.translation.trans_real import DjangoTranslation
from django.views.i18n import JSONCatalog

FOLDER = Path(__file__).parent / "locale"


@cache
def script_words(language: str) -> dict[str, Any]:
    """Text → translation, or the list of its plural forms. Empty for English, which stands in the scripts."""
    if language == settings.LANGUAGE_CODE:
        return {}
    view = JSONCatalog()
    view.translation = DjangoTranslation(language, domain="djangojs", localedirs=[str(FOLDER)])
    catalogue: dict[str, Any] = view.get_catalog()
    return catalogue
