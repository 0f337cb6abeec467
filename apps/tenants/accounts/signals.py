"""What the audit log is told of sign-ins: Django, allauth and axes say it by signals."""

from __future__ import annotations

from typing import Any

from allauth.account.signals import user_logged_in as came_in
from allauth.mfa import signals as mfa
from axes.signals import user_locked_out
from django.contrib.auth.signals import user_logged_in, user_logged_out, user_login_failed
from django.dispatch import receiver
from django.http import HttpRequest
from django.utils import timezone

from apps.tenants.accounts import sessions
from apps.tenants.accounts.backends import axes_username
from apps.tenants.accounts.second_factor import take_as_used
from apps.tenants.audit.services import audit
from apps.tenants.models import Operator
from apps.tenants.sign_in import end_all_sign_ins

user_logged_in.disconnect(dispatch_uid="update_last_login")  # Django's would write a version to the history


@receiver(user_logged_in)
def note_last_login(user: Operator, **kwargs: Any) -> None:
    """Not an edit."""
    user.last_login = timezone.now()
    Operator.objects.filter(pk=user.pk).update(last_login=user.last_login)


@receiver(came_in)
def tell_sign_in(request: HttpRequest, user: Operator, **kwargs: Any) -> None:
    """At the console, when all steps are taken."""
    records = request.session.get("account_authentication_methods") or []
    methods = [str(record.get("type") or record.get("method")) for record in records]
    sessions.note_session(request)
    audit("sign_in.done", request=request, actor=user, details={"by": methods})


@receiver(user_login_failed)
def tell_refusal(credentials: dict[str, Any], request: HttpRequest | None = None, **kwargs: Any) -> None:
    reason = str(credentials.get("reason") or "password")
    audit("sign_in.refused", request=request, actor=axes_username(request, credentials) or "?", details={"of": reason})


@receiver(user_locked_out)
def tell_lock(request: HttpRequest, username: str, ip_address: str | None, **kwargs: Any) -> None:
    """Told once, when it begins, and not for each attempt while it lasts."""
    if getattr(request, "axes_failures_since_start", 0) == _limit():
        audit("sign_in.locked", request=request, actor=username, details={"address": ip_address})


@receiver(user_logged_out)
def tell_sign_out(request: HttpRequest, user: Operator | None, **kwargs: Any) -> None:
    if isinstance(user, Operator) and not getattr(request, "_signed_out_by_rule", False):
        audit("sign_out.done", request=request, actor=user)


@receiver(mfa.authenticator_added)
def tell_added(request: HttpRequest, user: Operator, authenticator: Any, **kwargs: Any) -> None:
    """Who came in before there was a second factor has shown none: with one, every other sign-in ends."""
    if authenticator.type == "totp":
        take_as_used(authenticator)
        end_all_sign_ins(user, but=request.session.session_key)
    audit("second_factor.add", request=request, actor=user, details={"kind": authenticator.type})


@receiver(mfa.authenticator_removed)
def tell_removed(request: HttpRequest, user: Operator, authenticator: Any, **kwargs: Any) -> None:
    audit("second_factor.remove", request=request, actor=user, details={"kind": authenticator.type})


@receiver(mfa.authenticator_reset)
def tell_reset(request: HttpRequest, user: Operator, authenticator: Any, **kwargs: Any) -> None:
    audit("second_factor.new_recovery_codes", request=request, actor=user)


def _limit() -> int:
    from django.conf import settings

    return int(settings.AXES_FAILURE_LIMIT)
