"""Reading keys, credentials and roles. A row of another application is a row that does not exist."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple
from uuid import UUID

from django.db.models import Count, Prefetch, Q, QuerySet, prefetch_related_objects
from django.utils import timezone

from apps.tenants.models import ApiKey, Application, ChannelCredential, KeyKind, Membership, Operator, Provider
from automata_signal.errors import NotFound


def key_get(*, application: Application, key_id: UUID) -> ApiKey:
    key = ApiKey.objects.for_application(application).filter(pk=key_id).first()
    if key is None:
        raise NotFound("There is no such key.")
    return key


def credential_get(*, application: Application, credential_id: UUID) -> ChannelCredential:
    credential = credentials_shown(application=application).filter(pk=credential_id).first()
    if credential is None:
        raise NotFound("There is no such credential.")
    return credential


def credentials_shown(*, application: Application) -> QuerySet[ChannelCredential]:
    """For the API and the console: the secret is not read, so it is not decrypted either."""
    return ChannelCredential.objects.for_application(application).defer("secret")


def with_memberships(operator: Operator) -> Operator:
    """The operator with memberships and their applications at hand, by name."""
    memberships = Membership.objects.select_related("application").order_by("application__name", "id")
    prefetch_related_objects([operator], Prefetch("memberships", queryset=memberships))
    return operator


@dataclass(frozen=True)
class Readiness:
    """How far an application has been set up: what a list of first steps shows."""

    has_secret_key: bool
    has_publishable_key: bool
    has_used_key: bool
    """The application's server or apps have called with one."""
    has_credential: bool
    has_checked_credential: bool
    """A provider has said that it takes one."""
    credentials_in_trouble: int
    """Stopped by the breaker, or refused when the provider was asked."""
    credentials_expiring: int
    """Within 30 days, or already."""
    keys_unused: int
    """Usable keys that nobody has used for 90 days, nor made since."""

    @property
    def can_send(self) -> bool:
        return self.has_credential and self.has_secret_key


EXPIRING = timedelta(days=30)
UNUSED = timedelta(days=90)


def application_readiness(application: Application) -> Readiness:
    """In two queries."""
    now = timezone.now()
    usable = Q(expires_at=None) | Q(expires_at__gt=now)
    keys = list(
        ApiKey.objects.for_application(application)
        .filter(usable, revoked_at=None)
        .values_list("kind", "last_used_at", "created_at")[:1_000]
    )
    credentials = list(
        ChannelCredential.objects.for_application(application)
        .filter(is_active=True)
        .exclude(provider=Provider.IN_APP)
        .values_list("check_ok", "breaker_opened_at", "expires_at")[:1_000]
    )
    return Readiness(
        has_secret_key=any(kind == KeyKind.SECRET for kind, _, _ in keys),
        has_publishable_key=any(kind == KeyKind.PUBLISHABLE for kind, _, _ in keys),
        has_used_key=any(used is not None for _, used, _ in keys),
        has_credential=bool(credentials),
        has_checked_credential=any(ok for ok, _, _ in credentials),
        credentials_in_trouble=sum(opened is not None or ok is False for ok, opened, _ in credentials),
        credentials_expiring=sum(ends is not None and ends < now + EXPIRING for _, _, ends in credentials),
        keys_unused=sum((used or made) < now - UNUSED for _, used, made in keys),
    )


class CredentialsInNeed(NamedTuple):
    refused: int
    """Active, and the provider said no when it was asked last."""
    expiring: int
    """Active, and ending within 30 days or ended."""


def credentials_in_need(*, application: Application) -> CredentialsInNeed:
    """What somebody should do something about, in one query."""
    ends = timezone.now() + EXPIRING
    rows = ChannelCredential.objects.for_application(application).filter(is_active=True)
    counts = rows.aggregate(
        refused=Count("pk", filter=Q(check_ok=False)), expiring=Count("pk", filter=Q(expires_at__lt=ends))
    )
    return CredentialsInNeed(**counts)
