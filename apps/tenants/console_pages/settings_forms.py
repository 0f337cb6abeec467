"""An application's settings as fields of a form, made from their schema: nobody has to write JSON.

Every entry of `application_settings.SCHEMA` becomes a labelled field of its kind, so that a new entry is in the form as
soon as it is in the schema; `_WORDS` has words for people. What is left empty is not stored, and has its default. What
the schema does not know is kept as it is.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django import forms
from django.template.loader import render_to_string
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold import widgets

from apps.tenants.application_settings import SCHEMA
from apps.tenants.console.formats import number

PREFIX = "set_"
LONG_TEXT = 1_000
ROWS_BLANK = 2

Path = tuple[str, ...]

_GROUPS: tuple[tuple[str, Any, Any, tuple[str, ...]], ...] = (
    (
        "delivery",
        gettext_lazy("Delivery and retention"),
        gettext_lazy("How long messages are tried, waited for and kept."),
        ("default_ttl_s", "receipt_timeout_hours", "retention_days"),
    ),
    (
        "courtesy",
        gettext_lazy("Quiet hours and caps"),
        gettext_lazy("When nobody is disturbed, and how often anybody is."),
        ("quiet_hours", "frequency_caps"),
    ),
    (
        "law",
        gettext_lazy("Advertising and consent"),
        gettext_lazy("What the law asks for, and what people are told of their choices."),
        (
            *("advertising_rules", "ad_sender_name", "ad_opt_out_number", "ad_mark_add"),
            *("double_opt_in", "consent_notices"),
        ),
    ),
    ("campaigns", gettext_lazy("Campaigns"), gettext_lazy("Who may launch a campaign."), ("campaign_approval",)),
    (
        "security",
        gettext_lazy("Security"),
        gettext_lazy("Who may sign in to this application's console, and how apps prove who is logged in."),
        ("require_second_factor", "console_networks", "identity_verification"),
    ),
    ("other", gettext_lazy("More"), "", ()),
)
"""Name, title, what it is about, and its entries; what none names is in the last."""

_WORDS: dict[str, tuple[Any, Any]] = {
    "default_ttl_s": (
        gettext_lazy("Time to live (seconds)"),
        gettext_lazy(
            "How long a provider keeps trying to reach a device that is off. 86,400 seconds are a day. A message may "
            "say its own."
        ),
    ),
    "receipt_timeout_hours": (
        gettext_lazy("Wait for receipts (hours)"),
        gettext_lazy("A message that was sent and not confirmed by then counts as failed. Empty: we wait for ever."),
    ),
    "retention_days": (
        gettext_lazy("Keep messages (days)"),
        gettext_lazy("Older messages are deleted. Empty: as long as the plan and the platform keep them."),
    ),
    "quiet_hours.from": (
        gettext_lazy("Quiet from"),
        gettext_lazy("By the recipient's clock, such as 21:00. Urgent messages (high priority) go through."),
    ),
    "quiet_hours.to": (gettext_lazy("Quiet until"), gettext_lazy("Such as 08:00, also of the next day.")),
    "quiet_hours.channels": (
        gettext_lazy("Quiet on"),
        gettext_lazy("None chosen: push, SMS and KakaoTalk; e-mail disturbs nobody."),
    ),
    "frequency_caps": (
        gettext_lazy("Caps on marketing messages"),
        gettext_lazy("How many marketing messages one person gets at most. Messages above a cap are not sent."),
    ),
    "frequency_caps.channel": (gettext_lazy("Channel"), ""),
    "frequency_caps.category": (gettext_lazy("Category"), ""),
    "frequency_caps.per_day": (gettext_lazy("A day"), ""),
    "frequency_caps.per_week": (gettext_lazy("A week"), ""),
    "advertising_rules": (
        gettext_lazy("Advertising law"),
        gettext_lazy("Marketing messages are checked by it: marks, sender, way to opt out, and hours of the night."),
    ),
    "ad_sender_name": (
        gettext_lazy("Sender's name in advertising"),
        gettext_lazy("The business that people know, as it stands at the beginning of an advertising text."),
    ),
    "ad_opt_out_number": (
        gettext_lazy("Free number to opt out"),
        gettext_lazy("By which people refuse without cost, such as 080-123-4567."),
    ),
    "ad_mark_add": (
        gettext_lazy("Complete advertising texts"),
        gettext_lazy("Adds (광고), the sender's name and the way to opt out where a text lacks them."),
    ),
    "double_opt_in": (
        gettext_lazy("Confirm new addresses"),
        gettext_lazy("New addresses of these channels get messages only after their owner has confirmed."),
    ),
    "consent_notices.result": (
        gettext_lazy("Tell people the result of their choice"),
        gettext_lazy("The law asks for it within 14 days of a consent or refusal."),
    ),
    "consent_notices.reconfirm": (
        gettext_lazy("Ask for consent again after two years"),
        gettext_lazy("The law asks to remind people every two years of the consent that they gave."),
    ),
    "campaign_approval.mode": (
        gettext_lazy("Approval of campaigns"),
        gettext_lazy("Whether a campaign is launched only when a second person has approved it."),
    ),
    "campaign_approval.above_recipients": (
        gettext_lazy("Only above (recipients)"),
        gettext_lazy("Smaller campaigns need no approval. 0: every campaign needs it."),
    ),
    "require_second_factor": (
        gettext_lazy("Second factor for"),
        gettext_lazy("Members of these roles sign in with a second factor, or set one up first."),
    ),
    "console_networks": (
        gettext_lazy("Allowed networks"),
        gettext_lazy(
            "One in each line, such as 203.0.113.0/24. Members see this application only from there. Empty: from "
            "everywhere."
        ),
    ),
    "identity_verification.required": (
        gettext_lazy("Verify who is logged in"),
        gettext_lazy("Apps may log in a user only with a token that your server has signed (JWT, ES256)."),
    ),
    "identity_verification.public_key": (
        gettext_lazy("Public key of your server"),
        gettext_lazy("The public half (PEM, P-256) of the key that your server signs with."),
    ),
}
_CHOICES: dict[str, Any] = {
    "push": gettext_lazy("Push"),
    "email": gettext_lazy("E-mail"),
    "sms": gettext_lazy("SMS"),
    "kakao_talk": gettext_lazy("KakaoTalk"),
    "in_app": gettext_lazy("In-app"),
    "off": gettext_lazy("No"),
    "list": gettext_lazy("Yes, we do it: list whom to tell"),
    "send": gettext_lazy("Yes, send it automatically"),
    "required": gettext_lazy("A second person approves"),
    "none": gettext_lazy("None"),
    "kr": gettext_lazy("Korea (Network Act, article 50)"),
    "owner": gettext_lazy("Owner"),
    "manager": gettext_lazy("Manager"),
    "marketer": gettext_lazy("Marketer"),
    "analyst": gettext_lazy("Analyst"),
    "support": gettext_lazy("Support"),
}


@dataclass(frozen=True)
class Entry:
    """One setting."""

    path: Path
    rule: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Of its field."""
        return PREFIX + "__".join(self.path)

    @property
    def key(self) -> str:
        return ".".join(self.path)


def entries() -> list[Entry]:
    """Every setting that the schema knows; of an object, those in it."""
    found = []
    for name, rule in SCHEMA["properties"].items():
        if rule.get("type") == "object":
            found += [Entry((name, inner), sub) for inner, sub in rule.get("properties", {}).items()]
        else:
            found.append(Entry((name,), rule))
    return found


def groups() -> list[tuple[str, Any, Any, list[str]]]:
    """Name, title and explanation of each group of settings, and its fields; none is empty."""
    named = {top for *_rest, tops in _GROUPS for top in tops}
    found = []
    for name, title, about, tops in _GROUPS:
        fields = [entry.name for top in tops for entry in entries() if entry.path[0] == top]
        if name == "other":
            fields = [entry.name for entry in entries() if entry.path[0] not in named]
        if fields:
            found.append((name, title, about, fields))
    return found


def aliases() -> dict[str, str]:
    """Where a refusal of the service is about → the form's field. Of an object as a whole, its first field."""
    found: dict[str, str] = {}
    for entry in reversed(entries()):
        found[f"settings.{entry.key}"] = entry.name
        found[f"settings.{entry.path[0]}"] = entry.name
    return found


# --- Fields --------------------------------------------------------------------------------------------------------


def setting_fields() -> dict[str, forms.Field]:
    """A form field for each setting, by its name."""
    return {entry.name: _field(entry) for entry in entries()}


def _words(entry: Entry) -> tuple[Any, Any]:
    label, about = _WORDS.get(entry.key, ("", ""))
    label = label or entry.rule.get("title") or capfirst(" ".join(entry.path).replace("_", " "))
    return label, about or entry.rule.get("description", "")


class _Help:
    """What a setting does, and its default: put together when it is shown, in the reader's language."""

    def __init__(self, about: Any, rule: Mapping[str, Any]) -> None:
        self._about, self._rule = about, rule

    def __str__(self) -> str:
        parts = [str(self._about)]
        if "minimum" in self._rule and "maximum" in self._rule:
            bounds = {"least": number(self._rule["minimum"]), "most": number(self._rule["maximum"])}
            parts.append(_("From %(least)s to %(most)s.") % bounds)
        default = self._rule.get("default")
        if default is not None and not isinstance(default, bool | list | dict):
            shown = number(default) if isinstance(default, int) else str(_CHOICES.get(default, default))
            parts.append(_("Default: %(value)s.") % {"value": shown})
        return " ".join(part for part in parts if part)


def _types(rule: Mapping[str, Any]) -> set[str]:
    declared = rule.get("type", ())
    return {declared} if isinstance(declared, str) else set(declared)


def _field(entry: Entry) -> forms.Field:
    rule, types = entry.rule, _types(entry.rule)
    label, about = _words(entry)
    common: dict[str, Any] = {"label": label, "help_text": _Help(about, rule), "required": False}
    if "enum" in rule:
        return forms.ChoiceField(choices=_choices(rule), widget=widgets.UnfoldAdminSelectWidget, **common)
    if "boolean" in types:
        return forms.BooleanField(widget=widgets.UnfoldBooleanSwitchWidget(), **common)
    if "integer" in types:
        bounds: dict[str, Any] = {"min_value": rule.get("minimum"), "max_value": rule.get("maximum")}
        return forms.IntegerField(widget=widgets.UnfoldAdminIntegerFieldWidget(), **bounds, **common)
    if "array" in types:
        return _array(entry, common)
    if "string" in types or not types:
        return _text(rule, common)
    raise TypeError(f"no field for the setting {entry.key}")


def _choices(rule: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return [(str(value), _CHOICES.get(str(value), str(value))) for value in rule["enum"] if value is not None]


def _array(entry: Entry, common: dict[str, Any]) -> forms.Field:
    items = entry.rule["items"]
    if "enum" in items:
        widget = widgets.UnfoldAdminCheckboxSelectMultipleWidget
        return forms.MultipleChoiceField(choices=_choices(items), widget=widget, **common)
    if items.get("type") == "object":
        return RowsField(entry, **common)
    return LinesField(widget=widgets.UnfoldAdminTextareaWidget({"rows": 3}), **common)


def _text(rule: Mapping[str, Any], common: dict[str, Any]) -> forms.Field:
    pattern, longest = rule.get("pattern"), rule.get("maxLength")
    if pattern and "[0-5][0-9]" in pattern:
        clock = widgets.UnfoldAdminTextInputWidget({"placeholder": "21:00", "inputmode": "numeric", "maxlength": 5})
        wrong = {"invalid": gettext_lazy("Enter a time as hours and minutes, such as 21:00.")}
        return forms.RegexField(pattern, widget=clock, error_messages=wrong, **common)
    if longest and longest > LONG_TEXT:
        widget = widgets.UnfoldAdminTextareaWidget({"rows": 5, "spellcheck": "false"})
        return forms.CharField(max_length=longest, widget=widget, **common)
    if pattern:
        wrong = {"invalid": gettext_lazy("This does not have the form that is asked for.")}
        text = widgets.UnfoldAdminTextInputWidget()
        return forms.RegexField(pattern, max_length=longest, widget=text, error_messages=wrong, **common)
    return forms.CharField(max_length=longest, widget=widgets.UnfoldAdminTextInputWidget(), **common)


class LinesField(forms.CharField):
    """A list of texts, one in each line."""

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(map(str, value)) if isinstance(value, list | tuple) else value

    def clean(self, value: Any) -> Any:
        text = super().clean(value)
        return [line.strip() for line in text.splitlines() if line.strip()]

    def has_changed(self, initial: Any, data: Any) -> bool:
        return list(initial or []) != [line.strip() for line in str(data or "").splitlines() if line.strip()]


class RowsWidget(forms.Widget):
    """A table with a row of inputs for each object of a list, and some empty ones."""

    def __init__(self, entry: Entry, rows_max: int) -> None:
        super().__init__()
        self._entry, self._rows_max = entry, rows_max

    @property
    def columns(self) -> dict[str, Mapping[str, Any]]:
        return dict(self._entry.rule["items"]["properties"])

    def render(self, name: str, value: Any, attrs: Any = None, renderer: Any = None) -> Any:
        given = [row for row in value or [] if isinstance(row, Mapping)]
        rows = [*given, *({} for _blank in range(ROWS_BLANK))][: self._rows_max]
        columns = [
            {"key": key, "label": _WORDS.get(f"{self._entry.key}.{key}", (capfirst(key.replace("_", " ")), ""))[0]}
            for key in self.columns
        ]
        table = [[self._cell(name, place, key, rule, row) for key, rule in self.columns.items()] for place, row in
                 enumerate(rows)]  # fmt: skip
        context = {"columns": columns, "rows": table, "name": name, "help_id": f"id_{name}_helptext"}
        return render_to_string("admin/tenants/rows_widget.html", context)

    def _cell(self, name: str, place: int, key: str, rule: Mapping[str, Any], row: Mapping[str, Any]) -> dict[str, Any]:
        label = _WORDS.get(f"{self._entry.key}.{key}", (capfirst(key.replace("_", " ")), ""))[0]
        return {
            "name": f"{name}-{place}-{key}",
            "value": row.get(key, ""),
            "choices": [(value, shown) for value, shown in _choices(rule)] if "enum" in rule else None,
            "is_number": "integer" in _types(rule),
            "label": _("%(column)s, row %(row)s") % {"column": label, "row": place + 1},
        }

    def value_from_datadict(self, data: Any, files: Any, name: str) -> Any:
        rows = []
        for place in range(self._rows_max):
            given = {key: data.get(f"{name}-{place}-{key}", "").strip() for key in self.columns}
            rows.append({key: text for key, text in given.items() if text})
        return [row for row in rows if row]

    def value_omitted_from_data(self, data: Any, files: Any, name: str) -> bool:
        return False

    def id_for_label(self, id_: str) -> str:
        return ""


class RowsField(forms.Field):
    """A list of objects, such as caps: each a row of inputs; an empty row is none."""

    def __init__(self, entry: Entry, **kwargs: Any) -> None:
        self._columns: Mapping[str, Mapping[str, Any]] = entry.rule["items"]["properties"]
        super().__init__(widget=RowsWidget(entry, int(entry.rule.get("maxItems", 10))), **kwargs)

    def to_python(self, value: Any) -> list[dict[str, Any]]:
        rows = []
        for place, row in enumerate(value or [], start=1):
            read = {}
            for key, text in row.items():
                read[key] = self._number(text, place) if "integer" in _types(self._columns[key]) else text
            rows.append(read)
        return rows

    @staticmethod
    def _number(text: Any, place: int) -> int:
        try:
            return int(str(text))
        except ValueError:
            raise forms.ValidationError(
                _("Row %(row)s: “%(text)s” is not a whole number.") % {"row": place, "text": str(text)[:20]}
            ) from None

    def has_changed(self, initial: Any, data: Any) -> bool:
        try:
            return bool(self.to_python(data) != list(initial or []))
        except forms.ValidationError:
            return True


# --- Values --------------------------------------------------------------------------------------------------------


def initial_of(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What the fields show: what is stored, else the default."""
    found = {}
    for entry in entries():
        value = _stored(settings, entry.path)
        if value is None and "default" in entry.rule and ("enum" in entry.rule or "boolean" in _types(entry.rule)):
            value = entry.rule["default"]
        found[entry.name] = value
    return found


def _stored(settings: Mapping[str, Any], path: Path) -> Any:
    value: Any = settings
    for part in path:
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def settings_of(stored: Mapping[str, Any], cleaned: Mapping[str, Any], changed: Sequence[str]) -> dict[str, Any]:
    """The settings with what the form has changed. What was emptied is taken away, and has its default again; what the
    schema does not know stays."""
    made: dict[str, Any] = copy.deepcopy(dict(stored))
    for entry in entries():
        if entry.name in changed and entry.name in cleaned:
            _put(made, entry, cleaned[entry.name])
    hours = made.get("quiet_hours")
    if isinstance(hours, dict) and not hours.get("from") and not hours.get("to"):
        del made["quiet_hours"]
    return made


def _put(made: dict[str, Any], entry: Entry, value: Any) -> None:
    place = made
    for part in entry.path[:-1]:
        inner = place.get(part)
        place[part] = inner = inner if isinstance(inner, dict) else {}
        place = inner
    if value in (None, "", []):
        place.pop(entry.path[-1], None)
    else:
        place[entry.path[-1]] = value
    if len(entry.path) > 1 and not place:
        del made[entry.path[0]]


class SettingsForm(forms.ModelForm):  # type: ignore[type-arg]
    """A form of an application with its settings as fields. Get the class from `with_settings`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name, value in initial_of(self.instance.settings or {}).items():
            self.initial.setdefault(name, value)

    def settings_changed(self) -> list[str]:
        return [name for name in self.changed_data if name.startswith(PREFIX)]


def with_settings(form: type[SettingsForm]) -> type[SettingsForm]:
    """`form` with a field for each setting."""
    return type(form.__name__, (form,), setting_fields())
