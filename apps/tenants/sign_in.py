"""How operators sign in to the API: tokens, their rotation and end, and passwords by e-mail.

An access token lives 15 minutes and cannot be taken back; a refresh token lives 30 days, works once, and is
refused after log-out, after its rotation and after a change of password (`SIMPLE_JWT`).
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple
from urllib.parse import urlencode
from uuid import UUID, uuid4

from django.conf import settings
from django.contrib.auth import authenticate
from django.contrib.auth.tokens import default_token_generator
from django.core.mail import send_mail
from django.db import transaction
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.utils import timezone
from django.utils.encoding import force_bytes
from django.utils.http import urlsafe_base64_decode, urlsafe_base64_encode
from rest_framework_simplejwt.exceptions import TokenError
from rest_framework_simplejwt.token_blacklist.models import BlacklistedToken, OutstandingToken
from rest_framework_simplejwt.tokens import RefreshToken

from apps.tenants.access import client_address, count_request, network_of, refuse_excess
from apps.tenants.accounts.backends import count_failure, forget_failures
from apps.tenants.accounts.second_factor import Check, has_second_factor, must_have_second_factor, verify_code
from apps.tenants.accounts.sessions import sessions_end
from apps.tenants.audit.services import audit
from apps.tenants.models import Operator
from apps.tenants.services import check_password_rules
from automata_signal.celery import Task, send_tasks
from automata_signal.errors import Unauthenticated, Unavailable, ValidationFailed

PASSWORD_PAGE = "/account/password"  # noqa: S105, an address
"""Where a person chooses a password. The token comes after `#`, which browsers send to nobody."""


class Tokens(NamedTuple):
    access: str
    refresh: str
    expires_in_s: int
    """Of the access token."""


# --- Tokens ------------------------------------------------------------------------------------------------------


def sign_in(*, email: str, password: str, code: str = "", request: HttpRequest | None = None) -> Tokens:
    """Raise `Unauthenticated` in the same words, after the same time, whatever was wrong; `Throttled` by e-mail.

    Who has a second factor gives its `code`: else `MFA_REQUIRED`, and `MFA_REFUSED` for a wrong one.
    """
    limit_by_email("sign_in", email)
    operator = authenticate(request, username=email.strip(), password=password)
    if not isinstance(operator, Operator):
        raise Unauthenticated("The e-mail address or the password is wrong.", code="SIGN_IN_REFUSED")
    _ask_second_factor(operator, code, request)
    forget_failures(request, operator)
    Operator.objects.filter(pk=operator.pk).update(last_login=timezone.now())  # not an edit: no history
    audit("sign_in.api", request=request, actor=operator)
    return _issue(operator)


def _ask_second_factor(operator: Operator, code: str, request: HttpRequest | None) -> None:
    """Only who knows the password learns that there is a second factor."""
    if not has_second_factor(operator):
        _refuse_missing_factor(operator)
        return
    if not code:
        raise Unauthenticated("This account has a second factor: send its code as well.", code="MFA_REQUIRED")
    found = verify_code(operator=operator, code=code)
    if found is Check.WRONG:
        count_failure(request, operator, "second factor")
    if found is Check.LOCKED:
        audit("sign_in.refused", request=request, actor=operator, details={"of": "second factor locked"})
    if found is Check.RECOVERY:
        audit("second_factor.recovery_code", request=request, actor=operator)
    if not found:
        raise Unauthenticated("The code is wrong, was used before, or there were too many.", code="MFA_REFUSED")


def _refuse_missing_factor(operator: Operator) -> None:
    if must_have_second_factor(operator):
        raise Unauthenticated(
            "Your role asks for a second factor: set it up at the console first.", code="MFA_SETUP_NEEDED"
        )


@transaction.atomic
def tokens_refresh(*, refresh: str) -> Tokens:
    """New tokens for a refresh token, which ends with it. Of two that come at once, one is refused."""
    token = _verified(refresh)
    operator = Operator.objects.filter(pk=token["sub"], is_active=True).first()
    if operator is None or not _end(token):
        raise _refused()
    if not has_second_factor(operator):
        _refuse_missing_factor(operator)
    return _issue(operator)


@transaction.atomic
def sign_out(*, refresh: str) -> None:
    """End a refresh token."""
    _end(_verified(refresh))


@transaction.atomic
def end_all_sign_ins(operator: Operator, *, but: str | None = None) -> None:
    """End every refresh token of an operator, and every session at the console but the one whose key is given."""
    sessions_end(operator=operator, but=but)
    living = OutstandingToken.objects.filter(user=operator, blacklistedtoken=None, expires_at__gt=timezone.now())
    BlacklistedToken.objects.bulk_create([BlacklistedToken(token=token) for token in living], ignore_conflicts=True)


def forget_expired_sign_ins() -> int:
    """Delete what is remembered of refresh tokens that have expired by themselves."""
    return OutstandingToken.objects.filter(expires_at__lte=timezone.now()).delete()[0]


def _issue(operator: Operator) -> Tokens:
    with transaction.atomic():
        refresh = RefreshToken.for_user(operator)
        # The library keeps the whole token, with which anyone who reads the table could sign in; its id is enough.
        OutstandingToken.objects.filter(jti=refresh["jti"]).update(token="")
    access = refresh.access_token
    return Tokens(str(access), str(refresh), int(access.lifetime.total_seconds()))


def _verified(refresh: str) -> RefreshToken:
    try:
        return RefreshToken(refresh)  # type: ignore[arg-type]
    except TokenError:
        raise _refused() from None


def _end(token: RefreshToken) -> bool:
    """Whether it had not ended before."""
    outstanding, _ = OutstandingToken.objects.get_or_create(
        jti=token["jti"],
        defaults={"user_id": token["sub"], "expires_at": timezone.now() + token.lifetime},
    )
    return BlacklistedToken.objects.get_or_create(token=outstanding)[1]


def _refused() -> Unauthenticated:
    return Unauthenticated("The refresh token is not valid, has expired or was used.", code="TOKEN_REFUSED")


# --- Passwords by e-mail -------------------------------------------------------------------------------------------


def password_reset_request(*, email: str) -> None:
    """Queue an e-mail with a link, if there is such an operator. The caller cannot tell, not even by the time."""
    limit_by_email("password_reset", email)
    operator = Operator.objects.filter(email=email.strip().lower(), is_active=True).only("pk").first()
    task = Task("tenants.send_password_link", [str(operator.pk if operator else uuid4())], "control")
    if not send_tasks([task]):
        raise Unavailable("E-mail cannot be queued now; try again in a moment.")


def password_link_send(*, operator_id: UUID) -> bool:
    """Send the link by which an operator chooses a password. False if there is nobody to send it to."""
    operator = Operator.objects.filter(pk=operator_id, is_active=True).first()
    if operator is None:
        return False
    words = {
        "operator": operator,
        "link": password_link(operator),
        "minutes": settings.PASSWORD_RESET_TIMEOUT // 60,
    }
    send_mail(
        subject="Automata-Signal: choose a password · 비밀번호 설정",
        message=render_to_string("tenants/password_link.txt", words),
        from_email=None,
        recipient_list=[operator.email],
    )
    return True


def password_link(operator: Operator) -> str:
    uid = urlsafe_base64_encode(force_bytes(operator.pk))
    query = urlencode({"uid": uid, "token": default_token_generator.make_token(operator)})
    return f"{settings.PUBLIC_URL.rstrip('/')}{PASSWORD_PAGE}#{query}"


@transaction.atomic
def password_reset_confirm(*, uid: str, token: str, password: str, request: HttpRequest | None = None) -> None:
    """Set the password and end all sign-ins. The link works once, for `PASSWORD_RESET_TIMEOUT`, for the active."""
    operator = _operator_of(uid)
    if operator is None or not default_token_generator.check_token(operator, token):
        raise ValidationFailed.of("token", "is not valid, has expired or was used")
    operator_password_set(operator=operator, password=password, by="password link")
    audit("password.reset", request=request, actor=operator)


@transaction.atomic
def operator_password_set(*, operator: Operator, password: str, by: str = "", but: str | None = None) -> None:
    """Set a password that keeps the rules, and end all sign-ins but the session whose key is given as `but`."""
    check_password_rules(password, operator)
    operator.set_password(password)
    operator._change_reason = by[:100] or None  # type: ignore[attr-defined]
    operator.save(update_fields=["password"])
    end_all_sign_ins(operator, but=but)


def _operator_of(uid: str) -> Operator | None:
    """The operator of a link, locked, so that a link is used once."""
    try:
        operator_id = UUID(urlsafe_base64_decode(uid).decode("ascii"))
    except ValueError:
        return None
    return Operator.objects.select_for_update().filter(pk=operator_id, is_active=True).first()


def limit_by_address(what: str, request: HttpRequest) -> None:
    """Raise `Throttled` if there were too many from this address within a minute, with whatever e-mails."""
    name = f"{what}:{network_of(client_address(request))}"
    refuse_excess(count_request((name, settings.API_RATE_PER_MINUTE["anonymous"])))


def limit_by_email(what: str, email: str) -> None:
    """Raise `Throttled` if there were too many with this e-mail within a minute."""
    digest = hashlib.sha256(email.strip().lower().encode()).hexdigest()[:32]
    refuse_excess(count_request((f"{what}:{digest}", settings.API_RATE_PER_MINUTE["sign_in"])))
