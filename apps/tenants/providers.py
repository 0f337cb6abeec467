"""What can be said of a provider's secret, told by the app that speaks to the provider.

The adapters live above this app, so they register here at start-up (`AppConfig.ready`): how a secret is checked
before it is stored, and what of it may be shown.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from automata_signal.errors import FieldProblem

Secret = Mapping[str, Any]
Check = Callable[[Secret], Sequence[FieldProblem]]
Summarise = Callable[[Secret], Mapping[str, Any]]


class SecretRules(NamedTuple):
    check: Check
    """What is wrong with a secret; field paths are relative to it (`key_id`). Empty if nothing."""
    summarise: Summarise
    """What may be shown of a secret that passed the check: identifiers, never the key."""


def _nothing_wrong(secret: Secret) -> Sequence[FieldProblem]:
    return ()


def _nothing_shown(secret: Secret) -> Mapping[str, Any]:
    return {}


_UNKNOWN = SecretRules(_nothing_wrong, _nothing_shown)
_rules: dict[str, SecretRules] = {}


def register_secret_check(provider: str, check: Check, summarise: Summarise = _nothing_shown) -> None:
    """Let `check` judge the secrets of `provider` and `summarise` say what is shown of them. The last call wins."""
    _rules[provider] = SecretRules(check, summarise)


def secret_rules(provider: str) -> SecretRules:
    """The rules of `provider`; without any, every JSON object passes and nothing of it is shown."""
    return _rules.get(provider, _UNKNOWN)
