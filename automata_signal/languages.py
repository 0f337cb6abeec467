"""Whose language an answer is in: people choose theirs, programs get English."""

from __future__ import annotations

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.middleware.locale import LocaleMiddleware
from django.utils import translation

FOR_PROGRAMS = ("/api/", "/webhooks/", "/metrics", "/healthz", "/readyz")


class LanguageMiddleware(LocaleMiddleware):
    """Django's for the console and hosted pages. The API is English whatever `Accept-Language` says: programs and logs
    read its texts, and they stand in its documentation."""

    def process_request(self, request: HttpRequest) -> None:
        if not request.path.startswith(FOR_PROGRAMS):
            super().process_request(request)
            return
        translation.activate("en")
        request.LANGUAGE_CODE = "en"

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        """Without `Vary: Accept-Language` where the language does not vary."""
        if request.path.startswith(FOR_PROGRAMS):
            return response
        return super().process_response(request, response)
