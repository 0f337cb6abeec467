"""How a credential's secret is judged and shown: each adapter's own word, told to `apps.tenants.providers`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from apps.messaging.adapters.base import Adapter, CredentialError
from apps.messaging.adapters.registry import all_adapters
from apps.tenants.providers import Secret, register_secret_check
from automata_signal.errors import FieldProblem


def register_secret_checks() -> None:
    """At start-up, for every adapter there is."""
    for adapter in all_adapters().values():
        register_secret_check(
            adapter.name, partial(_problems, adapter), adapter.summarise_secret, adapter.secret_fields
        )


def _problems(adapter: Adapter, secret: Secret) -> Sequence[FieldProblem]:
    try:
        adapter.check_secret(secret)
    except CredentialError as error:
        return [FieldProblem(error.field, error.message)]
    return []
