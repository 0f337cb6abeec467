"""Inviting people by e-mail: a link that works once, for `INVITATION_DAYS`, into one application with one role.

Who invites learns nothing of the address: whether it is an operator's already is seen by who holds the link only.
"""

from __future__ import annotations

import hashlib
import secrets
from datetime import timedelta
from uuid import UUID

from django.conf import settings
from django.core.mail import send_mail
from django.db import transaction
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.utils import timezone
from django.utils.translation import gettext as _
from rest_framework.exceptions import Throttled

from apps.tenants.access import count_request, refuse_excess
from apps.tenants.accounts.models import Invitation
from apps.tenants.audit.services import audit
from apps.tenants.models import Application, Membership, Operator, Role
from apps.tenants.services import check_email, check_password_rules, membership_set, operator_create
from automata_signal.celery import Task, send_tasks
from automata_signal.errors import Conflict, SignalError, ValidationFailed

OPEN_MAX = 200
"""Open invitations of one application."""
PER_MINUTE = 20
"""That one operator may send."""
AGAIN_AFTER_S = 60
"""Between two e-mails of one invitation."""


class TooManyInvitations(SignalError):
    code = "RATE_LIMITED"
    status = 429


@transaction.atomic
def invitation_create(
    *, application: Application, email: str, role: str, by: Operator, name: str = "", request: HttpRequest | None = None
) -> Invitation:
    """Invite somebody; the e-mail leaves after the commit. An open invitation of the same address takes the new role.

    Raise `ValidationFailed`, also for who is a member already, and `TooManyInvitations`.
    """
    email = check_email(email)
    if role not in Role.values:
        raise ValidationFailed.of("role", f"must be one of {', '.join(Role.values)}")
    _limit(by)
    Application.objects.select_for_update(no_key=True).get(pk=application.pk)
    if Membership.objects.filter(application=application, operator__email=email).exists():
        raise ValidationFailed.of("email", _("is a member of this application already"))
    open_ones = Invitation.objects.filter(application=application, accepted_at=None, revoked_at=None)
    row = open_ones.filter(email=email).first()
    if row is None:
        if open_ones.filter(expires_at__gt=timezone.now()).count() >= OPEN_MAX:
            raise TooManyInvitations(_("There are too many open invitations. Revoke some first."))
        row = Invitation(application=application, email=email)
    row.role, row.name, row.invited_by = role, name.strip()[:200], by
    _renew(row)
    changes = {"role": [None, role]}
    audit("invitation.create", request=request, actor=by, application_id=application.pk, row=row, changes=changes)
    return row


@transaction.atomic
def invitation_resend(*, invitation: Invitation, by: Operator) -> Invitation:
    """A new link for the same invitation; the old one ends."""
    row = Invitation.objects.select_for_update().get(pk=invitation.pk)
    _refuse_closed(row)
    if (timezone.now() - row.asked_at).total_seconds() < AGAIN_AFTER_S:
        raise TooManyInvitations(_("An e-mail was sent a moment ago. Wait a minute before you send another."))
    _limit(by)
    _renew(row)
    return row


@transaction.atomic
def invitation_revoke(*, invitation: Invitation) -> Invitation:
    """End an invitation: its link opens nothing any more."""
    row = Invitation.objects.select_for_update().get(pk=invitation.pk)
    _refuse_closed(row)
    row.revoked_at, row.digest = timezone.now(), None
    row.save(update_fields=["revoked_at", "digest"])
    return row


def _refuse_closed(row: Invitation) -> None:
    if row.accepted_at is not None or row.revoked_at is not None:
        raise Conflict(_("This invitation was accepted or revoked already."), code="INVITATION_CLOSED")


def _limit(by: Operator) -> None:
    try:
        refuse_excess(count_request((f"invitation:{by.pk}", PER_MINUTE)))
    except Throttled:
        raise TooManyInvitations(_("Too many invitations at once. Wait a minute and go on.")) from None


def _renew(row: Invitation) -> None:
    now = timezone.now()
    row.asked_at, row.expires_at = now, now + timedelta(days=settings.INVITATION_DAYS)
    row.digest = row.sent_at = None
    row.save()
    task = Task("tenants.send_invitation", [str(row.pk)], "control")
    # robust: without Redis the invitation is there all the same, and is sent again by hand.
    transaction.on_commit(lambda: send_tasks([task]), robust=True)


# --- The e-mail ----------------------------------------------------------------------------------------------------


def invitation_send(*, invitation_id: UUID) -> bool:
    """Make the link and send it. False if there is nothing to send any more."""
    token = secrets.token_urlsafe(32)
    with transaction.atomic():
        row = Invitation.objects.select_for_update(of=("self",)).filter(pk=invitation_id).first()
        if row is None or row.state != "open":
            return False
        row.digest = token_digest(token)
        row.save(update_fields=["digest"])
    words = {
        "invitation": row,
        "application": row.application,
        "inviter": row.invited_by.name or row.invited_by.email if row.invited_by else "",
        "role": Role(row.role).label,
        "link": f"{settings.PUBLIC_URL.rstrip('/')}/account/invitation/{token}/",
        "days": settings.INVITATION_DAYS,
    }
    send_mail(
        subject="Automata-Signal: invitation · 초대",
        message=render_to_string("account/email/invitation.txt", words),
        from_email=None,
        recipient_list=[row.email],
    )
    Invitation.objects.filter(pk=row.pk, digest=row.digest).update(sent_at=timezone.now())
    return True


def token_digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


# --- Accepting -----------------------------------------------------------------------------------------------------


def invitation_of(digest: bytes) -> Invitation | None:
    """The invitation that a link stands for, while it can be accepted."""
    row = Invitation.objects.select_related("application", "invited_by").filter(digest=digest).first()
    return row if row is not None and row.state == "open" and row.application.is_active else None


@transaction.atomic
def invitation_accept(*, digest: bytes, operator: Operator, request: HttpRequest | None = None) -> Membership:
    """Give the operator the role. Raise `Conflict` if the link was used, or is not for them."""
    row = Invitation.objects.select_for_update(of=("self",)).filter(digest=digest).first()
    if row is None or row.state != "open" or row.email != operator.email or not operator.is_active:
        raise Conflict(_("This invitation is not valid any more."), code="INVITATION_CLOSED")
    return _accept(row, operator, request)


@transaction.atomic
def invitation_accept_new(
    *, digest: bytes, name: str, password: str, language: str = "", time_zone: str = "", request: HttpRequest
) -> Operator:
    """Make the operator whom the link invites, with a password, and give the role.

    Raise `ValidationFailed` for the password, and `Conflict` if the link was used or there is such an operator.
    """
    row = Invitation.objects.select_for_update(of=("self",)).filter(digest=digest).first()
    if row is None or row.state != "open" or Operator.objects.filter(email=row.email).exists():
        raise Conflict(_("This invitation is not valid any more."), code="INVITATION_CLOSED")
    check_password_rules(password, Operator(email=row.email, name=name))
    operator = operator_create(email=row.email, name=name.strip(), password=password, by="invitation")
    operator.language, operator.time_zone = language, time_zone
    operator.save(update_fields=["language", "time_zone"])
    _accept(row, operator, request)
    return operator


@transaction.atomic
def accept_by_verified_email(*, email: str, request: HttpRequest) -> Operator | None:
    """Make an operator of who is invited and whose address an OpenID Connect issuer has verified; None if nobody is.

    An invitation that cannot be accepted, as by the application's plan, stays open; raise its refusal if all are such.
    """
    rows = Invitation.objects.select_for_update(of=("self",)).filter(
        email=email, accepted_at=None, revoked_at=None, expires_at__gt=timezone.now(), application__is_active=True
    )
    invitations = list(rows)
    if not invitations:
        return None
    operator = operator_create(email=email, name=invitations[0].name, by="invitation")
    refused: list[SignalError] = []
    for row in invitations:
        try:
            with transaction.atomic():
                _accept(row, operator, request)
        except SignalError as refusal:
            refused.append(refusal)
    if len(refused) == len(invitations):
        raise refused[0]
    return operator


def _accept(row: Invitation, operator: Operator, request: HttpRequest | None) -> Membership:
    existing = Membership.objects.filter(operator=operator, application_id=row.application_id).first()
    membership = existing or membership_set(
        operator=operator, application=row.application, role=row.role, by=f"invitation of {row.invited_by or '–'}"
    )
    row.accepted_at, row.digest = timezone.now(), None
    row.save(update_fields=["accepted_at", "digest"])
    changes = {"role": [None, membership.role]}
    audit(
        "invitation.accept",
        request=request,
        actor=operator,
        application_id=row.application_id,
        row=row,
        changes=changes,
    )
    return membership
