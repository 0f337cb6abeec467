"""What the secret of a provider's credential consists of, as a form asks for it.

Adapters declare it and the console shows it; neither may import the other, so what both speak of stands here.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import NamedTuple

from django.utils.functional import Promise

Text = str | Promise
"""In English, or to be translated when it is shown."""


class FieldKind(enum.Enum):
    """How a value is typed, and what it is in the secret."""

    TEXT = "text"
    LONG = "long"
    """Text of several lines: a key in PEM. It may also be uploaded as a file."""
    NUMBER = "number"
    YES_NO = "yes_no"
    JSON = "json"
    """An object. It may also be uploaded as a file."""


class SecretField(NamedTuple):
    """One key of a secret."""

    name: str
    """The key."""
    label: Text
    kind: FieldKind = FieldKind.TEXT
    is_secret: bool = False
    """Written and never shown again; left empty it stays as it is stored. What is not secret is shown as
    `summarise_secret` tells it, under the same name."""
    help: Text = ""
    placeholder: str = ""
    choices: tuple[tuple[str, Text], ...] = ()
    """Value and label; the first one is chosen unless told."""
    only_for: tuple[str, tuple[str, ...]] | None = None
    """Another field of the same secret, with choices, and those of them for which this one is shown."""


def summary_of(fields: Iterable[SecretField], secret: object) -> dict[str, str]:
    """What may be shown of a secret: each field that is there and is not secret, as text."""
    stored = secret if isinstance(secret, dict) else {}
    return {field.name: _shown(stored[field.name]) for field in fields if not field.is_secret and field.name in stored}


def _shown(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
