"""The segment builder: criteria as rows that are clicked together, and back.

`AudienceField` is a form field whose value is the JSON object that `apps.subscriptions.targeting` reads. Its widget
draws stored criteria as groups (all, any, none) of rows (field, operator, value); `builder.js` writes what is clicked
into the text area that holds the JSON, which without a script is simply filled in by hand. A node that the rows cannot
show stands there as it is, read-only, and is sent back unchanged.

What the application has (segments, tags, versions …) is asked for by its id: `data-application`, else the form's own
field `application`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as made
from typing import Any, NamedTuple
from uuid import UUID

from babel import Locale, UnknownLocaleError
from django import forms
from django.core.exceptions import ValidationError
from django.forms.widgets import Media
from django.template.loader import render_to_string
from django.urls import reverse_lazy
from django.utils import timezone
from django.utils.safestring import SafeString
from django.utils.translation import get_language
from django.utils.translation import gettext_lazy as _

from apps.subscriptions.models import SubscriptionType, TestType
from apps.subscriptions.targeting import TargetingError, validate_criteria
from apps.tenants.console.forms import JSONObjectField

NUMBER_SAFE = 2**53
"""A script's numbers are whole up to here; what is larger is kept as it is."""

# --- What can be asked for -----------------------------------------------------------------------------------------

OPERATORS: dict[str, Any] = {
    "eq": _("is"),
    "ne": _("is not"),
    "in": _("is one of"),
    "not_in": _("is none of"),
    "prefix": _("starts with"),
    "contains": _("contains"),
    "gt": _("is greater than"),
    "gte": _("is at least"),
    "lt": _("is less than"),
    "lte": _("is at most"),
    "between": _("is between"),
    "within": _("within the last"),
    "older_than": _("more than … ago"),
    "after": _("is after"),
    "before": _("is before"),
    "exists": _("is known"),
    "not_exists": _("is not known"),
}
_EQUAL = ("eq", "ne", "in", "not_in")
_ORDER = ("gt", "gte", "lt", "lte", "between")
_KNOWN = ("exists", "not_exists")
_PARTS = ("prefix", "contains")


class Kind(NamedTuple):
    """What goes with a field: operators in the order in which they are offered, and for each the input of its value."""

    operators: tuple[str, ...]
    one: str
    """The input of one value, of a list of values, and of what is compared."""
    many: str = ""
    compared: str = ""

    def input_of(self, operator: str) -> str:
        if operator in _KNOWN:
            return "none"
        if operator in ("in", "not_in"):
            return self.many
        if operator in ("within", "older_than"):
            return "age"
        if operator in _ORDER:
            return f"two-{self.compared}" if operator == "between" else self.compared
        return "text" if operator == "prefix" else self.one


KINDS: dict[str, Kind] = {
    "choice": Kind(_EQUAL, "choice", "choices"),
    "country": Kind((*_EQUAL, *_KNOWN), "choice", "list"),
    "text": Kind((*_EQUAL, *_PARTS, *_KNOWN), "text", "list"),
    "version": Kind((*_EQUAL, *_ORDER, *_KNOWN), "text", "list", "text"),
    "os": Kind((*_EQUAL, *_ORDER, *_PARTS, *_KNOWN), "text", "list", "text"),
    "ids": Kind((*_EQUAL, *_KNOWN), "text", "list"),
    "date": Kind(("within", "older_than", "after", "before", "between", *_KNOWN), "moment", "", "moment"),
    "json": Kind((*_EQUAL, *_ORDER, "contains", "prefix", *_KNOWN), "typed", "typed-list", "number"),
    "flag": Kind(("eq", "ne"), "choice"),
    "segment": Kind(("eq", "ne"), "segment"),
}


class Field(NamedTuple):
    """One line of the choice of fields."""

    name: str
    """As in the criteria; `tags.` and `user.` go on with a name that is typed; `segment` is no field of theirs."""
    label: Any
    kind: str
    group: Any
    offers: str = ""
    """Which of `Known`'s values are offered."""
    key_label: Any = ""


_DEVICE, _ACTIVITY, _PERSON = _("Device and app"), _("Activity"), _("Person")
FIELDS: dict[str, Field] = {
    item.name: item
    for item in (
        Field("segment", _("Segment"), "segment", _PERSON, "segments"),
        Field("user.", _("Property"), "json", _PERSON, "properties", _("Name of the property")),
        Field("tags.", _("Tag"), "json", _PERSON, "tags", _("Name of the tag")),
        Field("external_id", _("External id"), "ids", _PERSON),
        Field("test_group", _("In the test group"), "flag", _PERSON),
        Field("consent.push", _("Consent to advertising by push"), "flag", _PERSON),
        Field("consent.email", _("Consent to advertising by e-mail"), "flag", _PERSON),
        Field("consent.sms", _("Consent to advertising by SMS"), "flag", _PERSON),
        Field("consent.kakao_talk", _("Consent to advertising by KakaoTalk"), "flag", _PERSON),
        Field("consent.in_app", _("Consent to advertising in the app"), "flag", _PERSON),
        Field("country", _("Country"), "country", _DEVICE, "countries"),
        Field("language", _("Language"), "text", _DEVICE, "languages"),
        Field("type", _("Channel of the subscription"), "choice", _DEVICE),
        Field("app_version", _("App version"), "version", _DEVICE, "app_versions"),
        Field("os", _("OS version"), "os", _DEVICE, "os_versions"),
        Field("device_model", _("Device model"), "text", _DEVICE, "device_models"),
        Field("sdk_version", _("SDK version"), "version", _DEVICE, "sdk_versions"),
        Field("test_type", _("Environment of the app"), "choice", _DEVICE),
        Field("last_active_at", _("Last active"), "date", _ACTIVITY),
        Field("subscribed_at", _("Subscribed"), "date", _ACTIVITY),
        Field("unsubscribed_at", _("Unsubscribed"), "date", _ACTIVITY),
        Field("created_at", _("Subscription made"), "date", _ACTIVITY),
        Field("user.last_active_at", _("User last active"), "date", _ACTIVITY),
        Field("user.created_at", _("User made"), "date", _ACTIVITY),
    )
}
UNITS = {"m": _("minutes"), "h": _("hours"), "d": _("days"), "w": _("weeks")}
MODES = {
    "all": _("All of these"),
    "any": _("Any of these"),
    "none": _("None of these"),
    "notall": _("Not all of these"),
}
TYPES = {"text": _("Text"), "number": _("Number"), "boolean": _("Yes or no")}


def choices_of(name: str) -> list[tuple[str, Any]]:
    """The values of a field that has few, as JSON, with their labels."""
    if name == "type":
        return [(json.dumps(str(value)), label) for value, label in SubscriptionType.choices]
    if name == "test_type":
        return [(json.dumps(value), label) for value, label in TestType.choices]
    if name == "country":
        return [(json.dumps(code), label) for code, label in countries()]
    if name == "test_group":
        return [("true", _("yes")), ("false", _("no"))]
    if name.startswith("consent."):
        return [("true", _("given")), ("false", _("not given"))]
    return []


def countries() -> list[tuple[str, str]]:
    """Code and name in the operator's language, by name."""
    names = _locale().territories
    return sorted(((c, n) for c, n in names.items() if len(c) == 2 and c.isalpha() and c != "ZZ"), key=lambda p: p[1])


def _locale() -> Locale:
    try:
        return Locale.parse((get_language() or "en").replace("-", "_"))
    except (UnknownLocaleError, ValueError):
        return Locale("en")


# --- Criteria as rows ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """One condition, or a node that is kept as it is."""

    original: str
    """Its JSON, sent back unless somebody changes the row."""
    field: Field | None = None
    """None: the node is shown as it is."""
    key: str = ""
    """The name of a tag or property."""
    operator: str = ""
    values: list[Any] = made(default_factory=list)
    is_group: bool = False

    @property
    def input(self) -> str:
        return KINDS[self.field.kind].input_of(self.operator) if self.field else "none"

    @property
    def operators(self) -> list[tuple[str, Any]]:
        return [(name, OPERATORS[name]) for name in KINDS[self.field.kind].operators] if self.field else []

    @property
    def choices(self) -> list[tuple[str, Any]]:
        return choices_of(self.field.name) if self.field else []

    @property
    def as_json(self) -> list[str]:
        """Each value as JSON."""
        return [json.dumps(value, ensure_ascii=False) for value in self.values]

    @property
    def items(self) -> list[tuple[str, str]]:
        """Each value of a list as JSON and as text."""
        names = dict(countries()) if self.field and self.field.kind == "country" else {}
        return [(json.dumps(v, ensure_ascii=False), names.get(v, shown(v))) for v in self.values]

    @property
    def type(self) -> str:
        """Of the first value: text, number or boolean."""
        first = self.values[0] if self.values else ""
        return "boolean" if isinstance(first, bool) else "number" if isinstance(first, int | float) else "text"

    @property
    def amount(self) -> str:
        return str(self.values[0])[:-1] if self.values else ""

    @property
    def unit(self) -> str:
        return str(self.values[0])[-1:] if self.values else "d"

    @property
    def first(self) -> str:
        return shown(self.values[0]) if self.values else ""

    @property
    def second(self) -> str:
        return shown(self.values[1]) if len(self.values) > 1 else ""


@dataclass(frozen=True)
class Group:
    mode: str
    children: Sequence[Row | Group]
    is_bare: bool = False
    """Of the top: a condition without a group around it; of `none`: one node under `not`."""
    is_group: bool = True


def shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def rows_of(criteria: object) -> Group:
    """The criteria as a group of rows. Whatever they are, what is drawn and sent back unchanged is what was stored."""
    if criteria == {}:
        return Group("all", ())
    node = _node(criteria)
    return node if isinstance(node, Group) else Group("all", (node,), is_bare=True)


def _node(raw: object) -> Row | Group:
    if isinstance(raw, Mapping) and len(raw) == 1:
        ((word, inner),) = raw.items()
        if word in ("all", "any") and isinstance(inner, list) and inner:
            return Group(word, tuple(_node(child) for child in inner))
        if word == "segment" and _is_uuid(inner):
            return Row(_json(raw), FIELDS["segment"], operator="eq", values=[inner])
        if word == "not" and isinstance(inner, Mapping):
            return _negated(raw, inner)
    return _condition(raw) if isinstance(raw, Mapping) else Row(_json(raw))


def _negated(raw: Mapping[str, Any], inner: Mapping[str, Any]) -> Row | Group:
    if set(inner) == {"segment"} and _is_uuid(inner["segment"]):
        return Row(_json(raw), FIELDS["segment"], operator="ne", values=[inner["segment"]])
    node = _node(inner)
    if isinstance(node, Group) and not node.is_bare and node.mode in ("all", "any"):
        return Group("notall" if node.mode == "all" else "none", node.children)
    return Group("none", (node,), is_bare=True)


def _condition(raw: Mapping[str, Any]) -> Row:
    """The row of a condition, if every part of it has a place in one."""
    kept = Row(_json(raw))
    if not set(raw) <= {"field", "op", "value"} or not isinstance(raw.get("op"), str):
        return kept
    found = _field(raw.get("field"))
    if found is None:
        return kept
    item, key = found
    operator = raw["op"]
    kind = KINDS[item.kind]
    if operator not in kind.operators or ("value" in raw) == (operator in _KNOWN):
        return kept
    value = raw.get("value")
    values = value if isinstance(value, list) else [] if operator in _KNOWN else [value]
    if isinstance(value, list) != (operator in ("in", "not_in", "between")) or not _can_show(item, kind, raw, values):
        return kept
    return Row(_json(raw), item, key, operator, list(values))


def _can_show(item: Field, kind: Kind, raw: Mapping[str, Any], values: Sequence[Any]) -> bool:
    place = kind.input_of(raw["op"])
    if place.startswith("two-") and len(values) != 2:
        return False
    if place in ("choice", "choices"):
        known = {text for text, _label in choices_of(item.name)}
        return all(_json(value) in known for value in values)
    if place == "age":
        return bool(isinstance(values[0], str) and re.fullmatch("[1-9][0-9]{0,4}[mhdw]", values[0]))
    if place.endswith("number"):
        return all(_is_number(value) for value in values)
    if place in ("typed", "typed-list"):
        return all(isinstance(v, str | bool) or _is_number(v) for v in values) and bool(values)
    return all(isinstance(value, str) and "\n" not in value for value in values)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < NUMBER_SAFE


def _field(name: object) -> tuple[Field, str] | None:
    """The field of this name, and the rest of it that was typed."""
    if not isinstance(name, str):
        return None
    if (item := FIELDS.get(name)) is not None:
        return (item, "") if name not in ("segment", "user.", "tags.") else None
    for prefix in ("tags.", "user."):
        if name.startswith(prefix):
            return FIELDS[prefix], name.removeprefix(prefix)
    return None


def _is_uuid(value: object) -> bool:
    try:
        return isinstance(value, str) and bool(UUID(value))
    except ValueError:
        return False


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def written(group: Group) -> str:
    """The JSON of a group of rows, as `builder.js` writes it; empty for a group with nothing in it."""
    children = [written(child) if isinstance(child, Group) else child.original for child in group.children]
    if not children:
        return ""
    listed = f"[{', '.join(children)}]"
    if group.is_bare and len(children) == 1:
        return children[0] if group.mode == "all" else f'{{"not": {children[0]}}}'
    words = {"all": '{{"all": {}}}', "any": '{{"any": {}}}', "none": '{{"not": {{"any": {}}}}}'}
    return words.get(group.mode, '{{"not": {{"all": {}}}}}').format(listed)


def kept_rows(group: Group) -> Iterator[Row]:
    """The rows that are shown as they are."""
    for child in group.children:
        if isinstance(child, Group):
            yield from kept_rows(child)
        elif child.field is None:
            yield child


INPUTS = sorted({kind.input_of(operator) for kind in KINDS.values() for operator in kind.operators} - {"none"})

# --- The field -----------------------------------------------------------------------------------------------------

builder_media = Media(css={"all": ["campaigns/builder.css"]}, js=["campaigns/builder.js"])
"""What a page with an `AudienceField` links; a form's `media` has it already."""


class AudienceBuilder(forms.Widget):
    """The rows, and the text area that holds their JSON. `application_id`: whose segments, tags and versions are
    offered, and whose people counted; without it, those of the form's field `application`."""

    application_id: UUID | str | None = None
    channel_type: str = ""
    """Whom the count is about first; without it, the form's field `channel_type` says so."""
    time_zone: str = ""
    """Of dates that are typed; the operator's unless told."""

    @property
    def media(self) -> Media:
        return builder_media

    def format_value(self, value: Any) -> str:
        return value if isinstance(value, str) else json.dumps(value or {}, indent=2, ensure_ascii=False)

    def value_from_datadict(self, data: Mapping[str, Any], files: Any, name: str) -> Any:
        return data.get(name)

    def render(self, name: str, value: Any, attrs: Any = None, renderer: Any = None) -> SafeString:
        text = self.format_value(value)
        criteria, problem = _parsed(text)
        context = {
            "name": name,
            "text": text,
            "id": (attrs or {}).get("id") or f"id_{name}",
            "described_by": (attrs or {}).get("aria-describedby", ""),
            "is_everybody": criteria == {} and bool(text.strip()),
            "is_broken": problem,
            "root": rows_of(criteria) if criteria is not None else Group("all", ()),
            "application": str(self.application_id or ""),
            "channel": self.channel_type,
            "zone": self.time_zone or str(timezone.get_current_timezone()),
            "fields": _grouped(),
            "inputs": INPUTS,
            "facts": _facts(),
            "facts_id": f"{(attrs or {}).get('id') or name}-facts",
            "modes": MODES,
            "units": UNITS,
            "types": TYPES,
            "countries": countries(),
            "offers_url": _OFFERS,
            "preview_url": _PREVIEW,
            "blank": Row(""),
        }
        return SafeString(render_to_string("admin/console/builder/widget.html", context))


_OFFERS = reverse_lazy("admin:audience_offers")
_PREVIEW = reverse_lazy("admin:audience_preview")


def _parsed(text: str) -> tuple[Any, bool]:
    """The criteria, and whether the text is none."""
    if not text.strip():
        return None, False
    try:
        return JSONObjectField(required=False).to_python(text), False
    except ValidationError:
        return None, True


def _facts() -> dict[str, Any]:
    """What the script has to know to draw another field or operator: data, never HTML."""
    return {
        "kinds": {
            name: [[o, str(OPERATORS[o]), kind.input_of(o)] for o in kind.operators] for name, kind in KINDS.items()
        },
        "fields": {
            item.name: [item.kind, item.offers, str(item.key_label), [[v, str(text)] for v, text in choices]]
            for item in FIELDS.values()
            for choices in [choices_of(item.name)]
        },
    }


def _grouped() -> list[tuple[Any, list[Field]]]:
    groups: dict[Any, list[Field]] = {}
    for item in FIELDS.values():
        groups.setdefault(item.group, []).append(item)
    return list(groups.items())


class AudienceField(JSONObjectField):
    """Criteria of an audience. Everybody (`{}`) has to be chosen: an empty field is an error. What a script cannot have
    meant, such as a row without a value, is refused here with its place; segments are looked up by the service."""

    widget = AudienceBuilder  # type: ignore[assignment]
    default_error_messages = {"required": _("Say who gets it: everybody, or the conditions.")}

    def __init__(self, *, application_id: UUID | str | None = None, channel_type: str = "", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.widget.application_id = application_id
        self.widget.channel_type = channel_type

    def validate(self, value: Any) -> None:
        super().validate(value)
        if value is None:
            return
        try:
            validate_criteria(value)
        except TargetingError as error:
            raise ValidationError(problem_text(error), code="criteria") from None


def problem_text(error: TargetingError) -> str:
    """What is wrong, and where, for people."""
    message = str(_PROBLEMS.get(error.message, error.message))
    if error.message.startswith("unknown field"):
        message = str(_("say which property or tag"))
    return f"{error.path}: {message}" if error.path else message


_PROBLEMS = {
    "must not be empty": _("a value is missing"),
    "is missing": _("a value is missing"),
    "must be an object": _("this is no condition"),
    "must be the id of a segment": _("choose a segment"),
    "there is no such segment": _("there is no such segment"),
    "the segment contains itself": _("the segment contains itself"),
    "must be a number": _("must be a number"),
    "must be text": _("must be text"),
    "must be a list of at least one condition": _("this group has no conditions"),
    'must be an age such as "15m", "12h", "30d" or "2w"': _("say how long ago, as a whole number"),
    "must be an ISO 8601 time with zone, such as 2026-01-31T09:00:00+09:00": _("choose a date and a time"),
    "must be a version such as 2.10 or 2.10.1": _("must be a version such as 2.10 or 2.10.1"),
    "must be a country code of two letters, such as KR": _("choose a country"),
    "the first value lies above the second": _("the first value lies above the second"),
}
