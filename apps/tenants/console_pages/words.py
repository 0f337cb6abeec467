"""What the pages of applications share: states in a word, who did it, and secrets that are shown once."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from apps.tenants.console.formats import moment, moment_text
from apps.tenants.credentials.checking import is_running, last_check
from apps.tenants.credentials.expiry import SHOWN_DAYS, days_left
from apps.tenants.models import ApiKey, ChannelCredential
from automata_signal.secret_checks import FINDINGS

SETTINGS_READ, SETTINGS_WRITE = "settings:read", "settings:write"
UNUSED_DAYS = 90

REACHES: dict[str, Any] = {
    "iOSPush": gettext_lazy("Push to iPhone and iPad"),
    "AndroidPush": gettext_lazy("Push to Android"),
    "Email": gettext_lazy("E-mail"),
    "SMS": gettext_lazy("SMS"),
    "KakaoTalk": gettext_lazy("KakaoTalk (Alimtalk)"),
    "InAppMessage": gettext_lazy("In-app"),
}


def label_of(request: HttpRequest) -> str:
    """For history and audit: who did it."""
    return str(request.user)


def key_state(key: ApiKey) -> tuple[str, Any]:
    if key.revoked_at:
        return "danger", _("revoked")
    if not key.is_usable:
        return "default", _("expired")
    if key.replaced_by_id:
        return "warning", _("rotated, works until %(when)s") % {"when": moment_text(key.expires_at)}
    return "success", _("usable")


def key_notices(key: ApiKey) -> list[tuple[str, Any]]:
    """What somebody should do about a key: tone and sentence."""
    if not key.is_usable:
        return []
    now, found = timezone.now(), []
    used = key.last_used_at or key.created_at
    if (now - used).days >= UNUSED_DAYS:
        text = _("Nobody has used this key for %(days)s days. If nothing needs it any more, revoke it.")
        found.append(("warning", text % {"days": (now - used).days}))
    if key.expires_at and not key.replaced_by_id and (key.expires_at - now).days < SHOWN_DAYS:
        text = _("This key ends in %(days)s days. Rotate it, and give the new one to whoever uses it.")
        found.append(("warning", text % {"days": (key.expires_at - now).days}))
    return found


def summary_text(credential: ChannelCredential) -> str:
    return " · ".join(str(value) for value in credential.summary.values()) or "–"


def credential_state(credential: ChannelCredential) -> tuple[str, Any]:
    if not credential.is_active:
        return "default", _("inactive")
    if credential.breaker_opened_at:
        return "danger", _("stopped")
    if credential.check_ok is False:
        return "danger", _("refused")
    return ("warning", _("last answer was an error")) if credential.last_error else ("success", _("in use"))


def check_of(credential: ChannelCredential) -> dict[str, Any]:
    """What the last check with the provider found out, or that one runs."""
    if is_running(credential):
        return {"is_running": True, "tone": "info", "text": _("The provider is being asked …")}
    verified = last_check(credential)
    if verified is None:
        return {"tone": "", "text": _("Nobody has asked the provider yet whether it takes this credential.")}
    tone = {True: "good", False: "bad", None: "warning"}[verified.finding.ok]
    return {
        "tone": tone,
        "text": FINDINGS[verified.finding],
        "word": verified.word,
        "about": verified.about,
        "at": moment(credential.checked_at),
    }


def expiry_of(credential: ChannelCredential) -> dict[str, Any] | None:
    """When it ends, if that is known, and how near that is."""
    left = days_left(credential)
    if left is None:
        return None
    tone = "bad" if left < 7 else "warning" if left < SHOWN_DAYS else ""
    text = _("It has ended.") if left < 0 else _("%(days)s days left.") % {"days": left}
    return {"tone": tone, "text": text, "at": moment(credential.expires_at)}


def shown_once(request: HttpRequest, template: str, context: dict[str, Any]) -> HttpResponse:
    """A page with a secret in clear: in this answer only, no cookie, no session and no cache ever has it."""
    answer = TemplateResponse(request, template, context)
    answer["Cache-Control"] = "no-store"
    return answer
