"""The second factor: codes of an app (TOTP, RFC 6238) and recovery codes, for the console and the API alike.

What is stored is django-allauth's `Authenticator`, its secrets encrypted by us. A code works once, also of two requests
that come at the same moment; after `FAILURES_MAX` wrong ones in a row no code is taken for `LOCK_S`, from wherever they
come: who tries them knows the password already.
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Iterable
from enum import Enum

from allauth.mfa.models import Authenticator
from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from allauth.mfa.totp.internal.auth import format_hotp_value, hotp_value, yield_hotp_counters_from_time
from allauth.mfa.utils import decrypt
from django.conf import settings
from django.db import transaction
from django.utils import timezone

from apps.tenants.models import Membership, Operator

FAILURES_MAX = 10
LOCK_S = 900
SUPERUSER = "superuser"


class Check(Enum):
    TOTP = "totp"
    RECOVERY = "recovery_codes"
    WRONG = "wrong"
    LOCKED = "locked"

    def __bool__(self) -> bool:
        return self in (Check.TOTP, Check.RECOVERY)


def has_second_factor(operator: Operator) -> bool:
    return bool(Authenticator.objects.filter(user_id=operator.pk, type=Authenticator.Type.TOTP).exists())


def must_have_second_factor(operator: Operator, memberships: Iterable[Membership] | None = None) -> bool:
    """Whether a role of theirs asks for it: on the whole platform, or in the application where they have it.

    `memberships` have their applications at hand.
    """
    required: list[str] = settings.REQUIRE_SECOND_FACTOR
    if operator.is_superuser and SUPERUSER in required:
        return True
    if memberships is None:
        memberships = operator.memberships.select_related("application")
    return any(
        row.role in required or row.role in row.application.settings.get("require_second_factor", ())
        for row in memberships
    )


@transaction.atomic
def verify_code(*, operator: Operator, code: str) -> Check:
    """Take a code, once. A recovery code that was taken is gone."""
    rows = {row.type: row for row in Authenticator.objects.select_for_update().filter(user_id=operator.pk)}
    totp = rows.get(Authenticator.Type.TOTP)
    if totp is None:
        return Check.WRONG
    now = time.time()
    if totp.data.get("failures", 0) >= FAILURES_MAX and now - totp.data.get("failed_at", 0) < LOCK_S:
        return Check.LOCKED
    digits = code.replace(" ", "").replace("-", "")
    recovery = rows.get(Authenticator.Type.RECOVERY_CODES)
    if (step := _step_of(totp, digits)) is not None:
        found = Check.TOTP
        totp.data["last_step"] = step
    elif recovery is not None and digits.isascii() and RecoveryCodes(recovery).validate_code(digits):
        found = Check.RECOVERY
        recovery.refresh_from_db()
        recovery.last_used_at = timezone.now()
        recovery.save(update_fields=["last_used_at"])
    else:
        recent = now - totp.data.get("failed_at", 0) < LOCK_S
        totp.data |= {"failures": totp.data.get("failures", 0) + 1 if recent else 1, "failed_at": now}
        totp.save(update_fields=["data"])
        return Check.WRONG
    totp.data["failures"] = 0
    totp.last_used_at = timezone.now()
    totp.save(update_fields=["data", "last_used_at"])
    return found


@transaction.atomic
def failures_forget(*, operator: Operator) -> None:
    """Take codes again after too many wrong ones."""
    for totp in Authenticator.objects.select_for_update().filter(user_id=operator.pk, type=Authenticator.Type.TOTP):
        totp.data["failures"] = 0
        totp.save(update_fields=["data"])


def _step_of(totp: Authenticator, digits: str) -> int | None:
    """The time step whose code this is, if it is later than that of the last code that was taken."""
    secret = decrypt(totp.data["secret"])
    for step in yield_hotp_counters_from_time():
        expected = format_hotp_value(hotp_value(secret, step))
        if hmac.compare_digest(expected.encode(), digits.encode()) and step > totp.data.get("last_step", -1):
            return int(step)
    return None


def take_as_used(totp: Authenticator) -> None:
    """The code with which it was set up is not taken at a sign-in."""
    totp.data["last_step"] = next(iter(yield_hotp_counters_from_time())) + 1
    totp.save(update_fields=["data"])


def recovery_codes_left(operator: Operator) -> int | None:
    """How many recovery codes were not used yet; None without any."""
    row = Authenticator.objects.filter(user_id=operator.pk, type=Authenticator.Type.RECOVERY_CODES).first()
    return None if row is None else len(RecoveryCodes(row).get_unused_codes())


@transaction.atomic
def second_factor_remove(*, operator: Operator) -> bool:
    """Take the second factor and the recovery codes away. False if there were none."""
    return bool(Authenticator.objects.filter(user_id=operator.pk).delete()[0])
