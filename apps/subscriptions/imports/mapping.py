"""What the columns of a file are: guessed from their names and first values, and said by somebody who clicks."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from django.utils.translation import gettext_lazy as _

from apps.subscriptions.imports.columns import ALIASES, FIELDS, IGNORED, PREFIXES, TYPES
from apps.subscriptions.imports.models import Import, ImportKind
from apps.subscriptions.imports.reading import UnreadableFile, records
from apps.subscriptions.imports.rejects import REJECT_COLUMNS
from apps.subscriptions.models import SubscriptionType
from automata_signal.encryption import DecryptionError
from automata_signal.errors import FieldProblem, SignalError
from automata_signal.private_files import open_sealed

SAMPLES = 3
LABELS = {
    "external_id": _("External id"),
    "created_at": _("User since"),
    "type": _("Type of the subscription"),
    "token": _("Address (e-mail, phone number or token)"),
    "enabled": _("Subscribed: yes or no"),
    "subscription_status": _("Status as a number"),
    "device_model": _("Device model"),
    "device_os": _("OS version"),
    "device_language": _("Language"),
    "app_version": _("App version"),
    "sdk_version": _("SDK version"),
    "country_code": _("Country"),
    "test_type": _("Environment"),
}
KIND_LABELS = {
    "text": _("as text"),
    "number": _("as a number"),
    "boolean": _("as yes or no"),
    "json": _("as JSON"),
}
GROUPS = {ImportKind.USERS: _("Property of the user"), ImportKind.SUBSCRIPTIONS: _("Tag of the subscription")}

_GUESSES = {
    "external_id": (
        "external_id",
        "externalid",
        "user_id",
        "userid",
        "customer_id",
        "member_id",
        "id",
        "회원번호",
        "고객번호",
    ),
    "token": ("token", "address", "email", "e_mail", "mail", "phone", "mobile", "tel", "휴대폰", "전화번호", "이메일"),
    "created_at": ("created_at", "signed_up", "registered_at", "joined_at"),
    "country_code": ("country", "country_code"),
    "device_language": ("language", "lang", "locale"),
    "type": ("type", "channel"),
    "enabled": ("enabled", "subscribed", "active"),
}
_BY_WORD = {word: name for name, words in _GUESSES.items() for word in words}
_MAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")
_PHONE = re.compile(r"\+?[0-9][0-9 ()-]{7,}")
_NUMBER = re.compile(r"-?[0-9]{1,15}(\.[0-9]+)?")
_YES_NO = frozenset({"true", "false", "yes", "no", "y", "n"})


@dataclass
class ColumnRow:
    """A column of the file as the page shows it."""

    number: int
    title: str
    samples: list[str]
    target: str
    """A field, `:text` and the like for a property or tag of its kind; empty: it is left out."""
    name: str
    """Of the property or tag."""
    problem: str = ""


@dataclass
class Asked:
    """What somebody says about a file."""

    rows: list[ColumnRow]
    type: str = ""
    on_conflict: str = "update"
    resubscribe: bool = False
    clear_empty: bool = False
    problems: list[str] = field(default_factory=list)
    """What is about no column."""

    def mapping(self, kind: str) -> dict[str, str]:
        prefix = PREFIXES[ImportKind(kind)]
        return {
            row.title: f"{prefix}.{row.name.strip()}{row.target}" if row.target.startswith(":") else row.target
            for row in self.rows
        }

    def add_refusal(self, error: SignalError) -> None:
        """Put what is refused at the columns that it names."""
        by_title = {row.title: row for row in self.rows}
        for problem in error.details or [FieldProblem("", error.message)]:
            place, _dot, title = problem.field.partition(".")
            row = by_title.get(title) if place in ("columns", "mapping") else None
            if row is not None:
                row.problem = problem.message
            else:
                name = LABELS.get(title or problem.field, title or problem.field)
                self.problems.append(f"{name}: {problem.message}" if name else problem.message)


def targets(kind: str) -> list[tuple[str, Any]]:
    """What a column can be, but for a property or tag."""
    return [(name, LABELS[name]) for name in FIELDS[ImportKind(kind)]]


def value_targets(kind: str) -> list[tuple[str, Any]]:
    """The kinds of a property or tag."""
    return [(f":{name}", KIND_LABELS[name]) for name in TYPES[PREFIXES[ImportKind(kind)]]]


def first_lines(run: Import, limit: int = SAMPLES) -> list[list[str]]:
    """The cells of the first lines; none if they cannot be read."""
    try:
        with open_sealed(run.stored_as, offset=run.first_offset) as file:
            lines = records(
                file, encoding=run.encoding, delimiter=run.delimiter, offset=run.first_offset, line=run.first_line
            )
            return [record.cells for record in islice(lines, limit)]
    except (FileNotFoundError, DecryptionError, UnreadableFile):
        return []


def guessed(run: Import) -> Asked:
    """What the file most likely is: as it was said before, else by names and first values."""
    lines = first_lines(run)
    asked = Asked([], run.default_type, run.on_conflict, run.resubscribe, run.clear_empty)
    taken: set[str] = set()
    for number, title in enumerate(run.header):
        samples = [cells[number][:80] for cells in lines if number < len(cells) and cells[number].strip()]
        said = run.mapping.get(title)
        target, name = read_back(run.kind, said) if said is not None else _guess(run.kind, title, samples)
        if target in taken and not target.startswith(":"):
            target, name = _as_value(run.kind, title, samples)
        taken.add(target)
        asked.rows.append(ColumnRow(number, title, samples, target, name))
    if run.kind == ImportKind.SUBSCRIPTIONS and not asked.type and "type" not in taken:
        asked.type = _type_of(next((row.samples for row in asked.rows if row.target == "token"), []))
    return asked


def _guess(kind: str, title: str, samples: Sequence[str]) -> tuple[str, str]:
    fields = FIELDS[ImportKind(kind)]
    plain = re.sub(r"[\s.-]+", "_", title.strip().lower())
    if title in REJECT_COLUMNS:
        return IGNORED, ""
    prefix, _dot, rest = title.partition(".")
    if prefix.lower() == PREFIXES[ImportKind(kind)] and rest:
        return read_back(kind, title)
    found = ALIASES.get(plain, plain)
    found = found if found in fields else _BY_WORD.get(plain, "")
    if found in fields:
        return found, ""
    return _as_value(kind, title, samples)


def _as_value(kind: str, title: str, samples: Sequence[str]) -> tuple[str, str]:
    if samples and all(one.strip().lower() in _YES_NO for one in samples):
        return ":boolean", title
    if samples and all(_NUMBER.fullmatch(one.strip()) and not one.strip().startswith("0") for one in samples):
        return ":number", title
    return ":text", title


def read_back(kind: str, said: str) -> tuple[str, str]:
    """From the words of a mapping."""
    prefix, _dot, rest = said.partition(".")
    if prefix.lower() != PREFIXES[ImportKind(kind)] or not rest:
        return said, ""
    name, _colon, ending = rest.rpartition(":")
    return (f":{ending}", name) if name and ending in TYPES[prefix.lower()] else (":text", rest)


def _type_of(samples: Sequence[str]) -> str:
    if samples and all(_MAIL.fullmatch(one.strip()) for one in samples):
        return SubscriptionType.EMAIL.value
    if samples and all(_PHONE.fullmatch(one.strip()) for one in samples):
        return SubscriptionType.SMS.value
    return ""


def read(run: Import, data: Mapping[str, str]) -> Asked:
    """What was sent by the page."""
    lines = first_lines(run)
    known = {name for name, _label in (*targets(run.kind), *value_targets(run.kind))}
    rows = []
    for number, title in enumerate(run.header):
        samples = [cells[number][:80] for cells in lines if number < len(cells) and cells[number].strip()]
        target = data.get(f"target-{number}", IGNORED)
        name = data.get(f"name-{number}", "").strip() or title
        rows.append(ColumnRow(number, title, samples, target if target in known else IGNORED, name))
    return Asked(
        rows,
        type=data.get("type", ""),
        on_conflict=data.get("on_conflict", "update"),
        resubscribe="resubscribe" in data,
        clear_empty="clear_empty" in data,
    )
