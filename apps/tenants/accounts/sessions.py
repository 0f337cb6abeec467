"""The sessions of the console: which there are, and their end."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from importlib import import_module

from allauth.usersessions.models import UserSession
from django.conf import settings
from django.contrib.sessions.models import Session
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext as _

from apps.tenants.access import client_address
from apps.tenants.accounts.backends import as_ip
from apps.tenants.models import Operator

_BROWSERS = (
    (re.compile(r"Edg[A-Z]?/"), "Edge"),
    (re.compile(r"OPR/|Opera"), "Opera"),
    (re.compile(r"SamsungBrowser/"), "Samsung Internet"),
    (re.compile(r"Whale/"), "Whale"),
    (re.compile(r"Firefox/|FxiOS/"), "Firefox"),
    (re.compile(r"Chrome/|CriOS/|Chromium/"), "Chrome"),
    (re.compile(r"Safari/"), "Safari"),
)
_SYSTEMS = (
    (re.compile(r"iPhone|iPad"), "iOS"),
    (re.compile(r"Android"), "Android"),
    (re.compile(r"Windows"), "Windows"),
    (re.compile(r"Mac OS X|Macintosh"), "macOS"),
    (re.compile(r"CrOS"), "ChromeOS"),
    (re.compile(r"Linux"), "Linux"),
)


@dataclass(frozen=True)
class ShownSession:
    id: int
    browser: str
    address: str
    began_at: datetime
    seen_at: datetime
    is_this: bool


def browser_name(user_agent: str) -> str:
    """ "Chrome on Windows", as far as a browser says who it is."""
    browser = next((name for pattern, name in _BROWSERS if pattern.search(user_agent)), "")
    system = next((name for pattern, name in _SYSTEMS if pattern.search(user_agent)), "")
    if browser and system:
        return _("%(browser)s on %(system)s") % {"browser": browser, "system": system}
    return browser or system or user_agent[:60] or _("Unknown browser")


def note_session(request: HttpRequest) -> None:
    """Remember where the session of this request was last seen."""
    if not request.session.session_key:
        return
    facts = {
        "user_id": request.user.pk,
        "ip": as_ip(client_address(request)) or "0.0.0.0",  # noqa: S104, no address that is listened at
        "user_agent": request.headers.get("user-agent", "")[:200],
        "last_seen_at": timezone.now(),
    }
    UserSession.objects.update_or_create(session_key=request.session.session_key, defaults=facts)


def session_moved(before: str | None, now: str | None) -> None:
    """A session has a new key: by this it is found when it is to be ended from elsewhere."""
    UserSession.objects.filter(session_key=before).update(session_key=now)


def sessions_of(operator: Operator, current: str | None) -> list[ShownSession]:
    """Those that still live, this one first, then by when they were last seen."""
    rows = list(UserSession.objects.filter(user_id=operator.pk).order_by("-last_seen_at")[:200])
    keys = [row.session_key for row in rows]
    living = set(
        Session.objects.filter(session_key__in=keys, expire_date__gt=timezone.now()).values_list("pk", flat=True)
    )
    shown = [
        ShownSession(
            id=row.pk,
            browser=browser_name(row.user_agent),
            address=str(row.ip),
            began_at=row.created_at,
            seen_at=row.last_seen_at,
            is_this=row.session_key == current,
        )
        for row in rows
        if row.session_key in living
    ]
    return sorted(shown, key=lambda session: not session.is_this)


def session_end(*, operator: Operator, session_id: int) -> bool:
    """End one session of the operator. False if there is no such."""
    row = UserSession.objects.filter(user_id=operator.pk, pk=session_id).first()
    if row is None:
        return False
    _delete([row.session_key])
    row.delete()
    return True


def sessions_end(*, operator: Operator, but: str | None = None) -> int:
    """End all sessions of the operator, but the one whose key is given; how many there were."""
    rows = UserSession.objects.filter(user_id=operator.pk).exclude(session_key=but or "")
    keys = list(rows.values_list("session_key", flat=True))
    _delete(keys)
    rows.filter(session_key__in=keys).delete()
    return len(keys)


def forget_ended_sessions() -> int:
    """Delete what is remembered of sessions that have ended by themselves, and the sessions."""
    Session.objects.filter(expire_date__lte=timezone.now()).delete()
    living = Session.objects.values("pk")
    return int(UserSession.objects.exclude(session_key__in=living).delete()[0])


def _delete(keys: list[str]) -> None:
    store = import_module(settings.SESSION_ENGINE).SessionStore()
    for key in keys:
        store.delete(key)
