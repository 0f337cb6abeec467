"""Reading keys, credentials and roles. A row of another application is a row that does not exist."""

from __future__ import annotations

from uuid import UUID

from django.db.models import Prefetch, QuerySet, prefetch_related_objects

from apps.tenants.models import ApiKey, Application, ChannelCredential, Membership, Operator
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
