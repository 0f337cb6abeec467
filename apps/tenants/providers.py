"""What can be said of a provider's secret, told by the app that speaks to the provider.

The adapters live above this app, so they register here at start-up (`AppConfig.ready`): how a secret is checked
before it is stored, and what of it may be shown. Whoever makes messages wait for a stopped credential registers here
as well, to be told when it is used again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from automata_signal.errors import FieldProblem
from automata_signal.secret_checks import Finding, Verified
from automata_signal.secret_fields import SecretField

Secret = Mapping[str, Any]
Check = Callable[[Secret], Sequence[FieldProblem]]
Summarise = Callable[[Secret], Mapping[str, Any]]
Verify = Callable[[str, Secret], Verified]
"""Provider and secret → what the provider says. It calls the provider, for a few time-outs at most."""


class SecretRules(NamedTuple):
    check: Check
    """What is wrong with a secret; field paths are relative to it (`key_id`). Empty if nothing."""
    summarise: Summarise
    """What may be shown of a secret that passed the check: identifiers, never the key."""
    fields: tuple[SecretField, ...] = ()
    """What it consists of, for the console's form; without any, it is made by the API only."""
    reaches: str = ""
    """The type of subscription that it reaches: credentials of the same one take over from each other."""


def _nothing_wrong(secret: Secret) -> Sequence[FieldProblem]:
    return ()


def _nothing_shown(secret: Secret) -> Mapping[str, Any]:
    return {}


_UNKNOWN = SecretRules(_nothing_wrong, _nothing_shown)
_rules: dict[str, SecretRules] = {}


def register_secret_check(
    provider: str,
    check: Check,
    summarise: Summarise = _nothing_shown,
    fields: Sequence[SecretField] = (),
    reaches: str = "",
) -> None:
    """Let `check` judge the secrets of `provider`, `summarise` say what is shown of them, and the console's form ask
    for `fields`. The last call wins."""
    _rules[provider] = SecretRules(check, summarise, tuple(fields), reaches)


def secret_rules(provider: str) -> SecretRules:
    """The rules of `provider`; without any, every JSON object passes and nothing of it is shown."""
    return _rules.get(provider, _UNKNOWN)


def providers_that_reach(reaches: str) -> list[str]:
    """The providers whose credentials take over from each other."""
    return [provider for provider, rules in _rules.items() if rules.reaches == reaches]


def secret_fields() -> dict[str, tuple[SecretField, ...]]:
    """Provider → what its secret consists of, of those that have one."""
    return {provider: rules.fields for provider, rules in _rules.items() if rules.fields}


def _nobody_asks(provider: str, secret: Secret) -> Verified:
    return Verified(Finding.UNCLEAR)


_verify: list[Verify] = [_nobody_asks]


def register_verify(verify: Verify) -> None:
    """Let `verify` ask providers. The last call wins."""
    _verify[:] = [verify]


def verify_secret(provider: str, secret: Secret) -> Verified:
    """What `provider` says of `secret`. Never in a transaction."""
    return _verify[0](provider, secret)


BreakerClosed = Callable[[UUID, str, datetime | None], None]
"""Application, provider, and when the next probe would have been."""
_waiting: list[BreakerClosed] = []


def on_breaker_closed(listener: BreakerClosed) -> None:
    """Call `listener` whenever a credential's breaker was closed; registering twice is registering once."""
    if listener not in _waiting:
        _waiting.append(listener)


def tell_breaker_closed(application_id: UUID, provider: str, probe_at: datetime | None) -> None:
    """A credential may send again."""
    for listener in _waiting:
        listener(application_id, provider, probe_at)
