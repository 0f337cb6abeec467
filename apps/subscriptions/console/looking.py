"""Finding users and subscriptions by what an operator has in hand; addresses are shown so that nobody can use them."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.db.models import BinaryField, ExpressionWrapper, F, QuerySet
from django.utils.translation import gettext as _

from apps.subscriptions.models import MESSAGING_TYPES, AppUser, Subscription, SubscriptionType
from apps.subscriptions.preferences.subjects import masked_address
from apps.subscriptions.services.subscriptions import token_digest
from apps.subscriptions.validation import normal_token
from automata_signal.encryption import DecryptionError, keyring
from automata_signal.errors import SignalError

FOUND_MAX = 500
"""Users that the beginning of an external id finds."""


def user_ids(applications: list[UUID], external_id: str) -> list[UUID]:
    """Users with this external id, by the unique index on (application, external_id)."""
    rows = AppUser.with_archived.filter(application_id__in=applications, external_id=external_id)
    return list(rows.values_list("pk", flat=True))


def user_ids_by_prefix(applications: list[UUID], prefix: str) -> list[UUID]:
    """Users whose external id begins so, `FOUND_MAX` at most: by `user_by_prefix`."""
    rows = AppUser.with_archived.filter(application_id__in=applications, external_id__startswith=prefix)
    return list(rows.values_list("pk", flat=True)[:FOUND_MAX])


def subscription_ids_by_token(applications: list[UUID], token: str) -> list[UUID]:
    """Subscriptions with this token or address, by the unique index on (application, type, token_digest)."""
    found: list[UUID] = []
    for type_ in SubscriptionType.values:
        try:
            digest = token_digest(type_, normal_token(type_, token))
        except SignalError:
            continue
        rows = Subscription.with_archived.filter(application_id__in=applications, type=type_, token_digest=digest)
        found += rows.values_list("pk", flat=True)
    return found


def user_ids_by_address(applications: list[UUID], address: str) -> list[UUID]:
    """Users who have this e-mail address, phone number or token."""
    keys = subscription_ids_by_token(applications, address)
    rows = Subscription.with_archived.filter(pk__in=keys, user__isnull=False)
    return list(rows.values_list("user_id", flat=True))


def with_sealed_token(rows: QuerySet[Any]) -> QuerySet[Any]:
    """The token as ciphertext in `sealed`: one that cannot be decrypted must not take the page with it."""
    ciphertext = ExpressionWrapper(F("token"), output_field=BinaryField())
    sealed: QuerySet[Any] = rows.defer("token").annotate(sealed=ciphertext)
    return sealed


def masked(sealed: Any) -> str:
    """A token's first and last characters, from its ciphertext; `…` if it is short, gone or cannot be read."""
    return Subscription(token=_opened(sealed)).masked_token


def shown_address(row: Any) -> str:
    """The address of a subscription `with_sealed_token`, as its owner would know it: `k…@example.com`, `+8210…78`."""
    token = _opened(row.sealed)
    if not token:
        return _("no address any more")
    return masked_address(row.type, token) if row.type in MESSAGING_TYPES else Subscription(token=token).masked_token


def _opened(sealed: Any) -> str:
    try:
        return keyring().decrypt(bytes(sealed)).decode() if sealed else ""
    except (DecryptionError, UnicodeDecodeError):
        return ""
