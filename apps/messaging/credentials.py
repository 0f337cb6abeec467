"""How a credential's secret is judged, shown and verified: the adapters' own word, told to `apps.tenants.providers`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from apps.messaging.adapters.base import Adapter, CredentialError
from apps.messaging.adapters.registry import all_adapters, endpoint_for, types_reached_by
from apps.messaging.adapters.verifying import verify
from apps.tenants.providers import Secret, register_secret_check, register_verify
from automata_signal.errors import FieldProblem
from automata_signal.secret_checks import Verified


def register_secret_checks() -> None:
    """At start-up, for every adapter there is."""
    for adapter in all_adapters().values():
        register_secret_check(
            adapter.name,
            partial(_problems, adapter),
            adapter.summarise_secret,
            adapter.secret_fields,
            types_reached_by(adapter.name)[0],
        )
    register_verify(_verify)


def _verify(provider: str, secret: Secret) -> Verified:
    return verify(provider, secret, endpoint_for(provider))


def _problems(adapter: Adapter, secret: Secret) -> Sequence[FieldProblem]:
    try:
        adapter.check_secret(secret)
    except CredentialError as error:
        return [FieldProblem(error.field, error.message)]
    return []
