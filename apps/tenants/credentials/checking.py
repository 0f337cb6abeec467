"""Checking a credential with its provider, beside the request that asks for it.

The page marks that a check has begun and goes on; a thread of this process asks the provider and writes down what it
said. A process that ends meanwhile leaves a mark that counts as "no answer" after `CHECK_MAX_S`.
"""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import cache
from uuid import UUID

from django.db import connection, transaction
from django.utils import timezone

from apps.tenants.models import ChannelCredential
from apps.tenants.providers import verify_secret
from automata_signal.encryption import DecryptionError
from automata_signal.errors import Conflict
from automata_signal.secret_checks import Finding, Verified

log = logging.getLogger(__name__)

CHECK_MAX_S = 60.0
"""Longer than any check takes."""
AT_ONCE = 4


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(AT_ONCE, thread_name_prefix="credential-check")


@transaction.atomic
def check_begin(*, credential: ChannelCredential) -> None:
    """Ask the provider about it, once this is committed. Raise `Conflict` while another check runs."""
    now = timezone.now()
    row = ChannelCredential.objects.select_for_update().defer("secret").get(pk=credential.pk)
    if is_running(row):
        raise Conflict("A check is running already.", code="CHECK_RUNNING")
    ChannelCredential.objects.filter(pk=row.pk).update(check_started_at=now)
    transaction.on_commit(lambda: _threads().submit(_in_thread, credential.pk))


def is_running(credential: ChannelCredential) -> bool:
    began = credential.check_started_at
    return began is not None and timezone.now() - began < timedelta(seconds=CHECK_MAX_S)


def last_check(credential: ChannelCredential) -> Verified | None:
    """What the provider said when it was asked last; None if it never was, or of another secret."""
    if credential.check_started_at is not None and not is_running(credential):
        return Verified(Finding.NO_ANSWER)
    return Verified.unpacked(credential.check_message) if credential.checked_at else None


def _in_thread(credential_id: UUID) -> None:
    try:
        check_now(credential_id)
    except Exception:
        log.exception("a credential could not be checked", extra={"credential": str(credential_id)})
    finally:
        connection.close()


def check_now(credential_id: UUID) -> Verified | None:
    """Ask the provider and write down what it says. Outside of any transaction; None for a credential that is gone.

    An answer about a secret that was replaced meanwhile is not kept.
    """
    try:
        row = ChannelCredential.objects.filter(pk=credential_id).first()
        if row is None:
            return None
        began_at, verified = row.check_started_at, verify_secret(row.provider, row.secret)
    except DecryptionError:
        row = ChannelCredential.objects.defer("secret").get(pk=credential_id)
        began_at, verified = row.check_started_at, Verified(Finding.UNREADABLE)
    of_this = ChannelCredential.objects.filter(pk=credential_id, check_started_at=began_at)  # a new secret forgets it
    told = {"checked_at": timezone.now(), "check_ok": verified.finding.ok, "check_message": verified.packed()}
    of_this.update(check_started_at=None, **told)
    return verified
