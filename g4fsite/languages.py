"""Pages in the reader's language, and what is for programs always in English.

The choice is a cookie's, else the browser's (`Accept-Language`), among `settings.LANGUAGES`:
https://docs.djangoproject.com/en/5.2/topics/i18n/translation/#how-django-discovers-language-preference
"""

from __future__ import annotations

from django.conf import settings
from django.http import HttpRequest, HttpResponseBase
from django.middleware.locale import LocaleMiddleware
from django.utils import translation

from g4fsite.pages import wants_json


class PageLanguage(LocaleMiddleware):
    """Django's own, for pages alone: an error that a client reads must not depend on who asks."""

    def process_request(self, request: HttpRequest) -> None:
        if not wants_json(request):
            super().process_request(request)
            return
        translation.activate(settings.LANGUAGE_CODE)
        request.LANGUAGE_CODE = settings.LANGUAGE_CODE

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        return response if wants_json(request) else super().process_response(request, response)
