"""The rules that each request to the console is held to, and whose language and clock its page has."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from django.conf import settings
from django.contrib import messages
from django.contrib.auth import logout
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone, translation
from django.utils.translation import gettext as _

from apps.tenants.access import client_address
from apps.tenants.accounts import sessions
from apps.tenants.accounts.networks import is_within
from apps.tenants.accounts.second_factor import has_second_factor, must_have_second_factor
from apps.tenants.audit.services import audit
from apps.tenants.console.access import is_open_here, memberships_of
from apps.tenants.models import Operator

PLACES = ("/admin/", "/account/")
OPEN_TO_ALL = ("/account/password",)
"""The page of the API's link; it does nothing itself."""
BEGAN, SEEN = "console_began", "console_seen"
"""In the session: seconds since 1970."""
SEEN_EVERY_S = 60
"""A session is written no more often than this."""
SETTING_UP = ("/account/2fa/", "/account/logout/", "/account/reauthenticate/", "/admin/jsi18n/", "/admin/logout/")
"""Where somebody may be who must have a second factor and has none."""

Answer = Callable[[HttpRequest], HttpResponse]


class ConsoleMiddleware:
    """For `/admin/` and `/account/`: networks, the session's age, the second factor; then language and clock."""

    def __init__(self, get_response: Answer) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if not request.path_info.startswith(PLACES):  # `path` may begin with where a server has put us
            return self.get_response(request)
        if not is_within(client_address(request), settings.CONSOLE_NETWORKS):
            return render(request, "account/outside.html", {"address": client_address(request)}, status=403)
        operator = request.user
        if not isinstance(operator, Operator):
            return self.get_response(request)
        if self._has_ended(request, operator):
            messages.info(request, _("You were signed out, because you were away for a while. Sign in again."))
            return self._to_sign_in(request)
        self._set_language(request, operator)
        with timezone.override(_zone(operator)) if operator.time_zone else nullcontext():
            if self._must_set_up(request, operator):
                return redirect("mfa_activate_totp")
            return self.get_response(request)

    @staticmethod
    def _has_ended(request: HttpRequest, operator: Operator) -> bool:
        """Whether the session is over: too old, or nobody was there for too long."""
        now, session = int(time.time()), request.session
        began, seen = session.get(BEGAN), session.get(SEEN)
        if began is None or seen is None:
            session[BEGAN] = session[SEEN] = began = seen = now
            sessions.note_session(request)
            _tell_closed(request, operator)
        too_old = now - began > settings.CONSOLE_SESSION_HOURS * 3_600
        if too_old or now - seen > settings.CONSOLE_IDLE_MINUTES * 60:
            audit("sign_out.expired", request=request, actor=operator, details={"idle": not too_old})
            request._signed_out_by_rule = True  # type: ignore[attr-defined]
            logout(request)
            return True
        asks_by_itself = request.method == "GET" and "HX-Request" in request.headers  # a page that shows progress
        if now - seen >= SEEN_EVERY_S and not asks_by_itself:
            session[SEEN] = now
            sessions.note_session(request)
        return False

    @staticmethod
    def _to_sign_in(request: HttpRequest) -> HttpResponse:
        """The whole page goes there, also if only a part of it was asked for."""
        if "HX-Request" in request.headers:
            return HttpResponse(headers={"HX-Redirect": reverse("account_login")})
        return redirect_to_login(request.get_full_path() if request.method == "GET" else reverse("admin:index"))

    @staticmethod
    def _set_language(request: HttpRequest, operator: Operator) -> None:
        if operator.language and not request.COOKIES.get(settings.LANGUAGE_COOKIE_NAME):
            translation.activate(operator.language)
            request.LANGUAGE_CODE = translation.get_language()

    @staticmethod
    def _must_set_up(request: HttpRequest, operator: Operator) -> bool:
        if request.path_info.startswith(SETTING_UP):
            return False
        return must_have_second_factor(operator, memberships_of(request)) and not has_second_factor(operator)


def _tell_closed(request: HttpRequest, operator: Operator) -> None:
    """Once a session: which applications are not there, from this address."""
    if operator.is_superuser:
        return
    closed = [row.application.name for row in memberships_of(request) if not is_open_here(request, row.application)]
    if closed:
        told = {"names": ", ".join(closed), "address": client_address(request)}
        messages.warning(request, _("Not to be managed from your address, %(address)s: %(names)s") % told)


def _zone(operator: Operator) -> ZoneInfo:
    try:
        return ZoneInfo(operator.time_zone)
    except (ZoneInfoNotFoundError, ValueError):
        return ZoneInfo("UTC")
