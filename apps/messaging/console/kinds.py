"""The kinds of fields of the content editor: each shows a value at a place of a content, and writes it there.

What each channel has of them is told in `parts`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from django import forms
from django.utils.translation import gettext_lazy as _

WORDS = "words"
"""The section of what the message says; for the others there is `under`."""
OMIT: Any = object()
"""Nothing is written."""


class CannotShow(Exception):
    """The stored value has no place in the fields."""


Fields = Mapping[str, forms.Field]


class Part(NamedTuple):
    """A place of the content and the fields that show it."""

    place: str
    """`title`, `body`, or a path below `data` or `options`: `options.frequency.limit`."""
    section: str
    """`words`, `look`, `behaviour` or `who`: which group of the form."""
    fields: Callable[[], Fields]
    read: Callable[[Any], Mapping[str, Any]]
    """Stored value → what the fields begin with. Raises `CannotShow`."""
    write: Callable[[Mapping[str, Any]], Any]
    """What the fields were filled with → the value, or `OMIT`."""


# --- Fields of one value -------------------------------------------------------------------------------------------


def _input(**attrs: Any) -> forms.TextInput:
    return forms.TextInput({"class": "as-input", "autocomplete": "off", **attrs})


def _area(rows: int, **attrs: Any) -> forms.Textarea:
    return forms.Textarea({"class": "as-input", "rows": rows, **attrs})


def _select(choices: list[tuple[str, Any]]) -> forms.Field:
    return forms.ChoiceField(choices=choices, required=False, widget=forms.Select({"class": "as-input"}))


def _labelled(field: forms.Field, label: Any, help_text: Any) -> forms.Field:
    field.label, field.help_text = label, help_text
    return field


def _place(name: str, at: str) -> str:
    """`at`; unless told, the option of the field's name, or the title or the body itself."""
    return at or (name if name in ("title", "body") else f"options.{name}")


def under(section: str, *parts: Part) -> list[Part]:
    """These parts in another group of the form than that of the words."""
    return [part._replace(section=section) for part in parts]


def _one(
    name: str,
    label: Any,
    *,
    make: Callable[[], forms.Field],
    read: Callable[[Any], Any],
    write: Callable[[Any], Any],
    at: str = "",
    help_text: Any = "",
) -> Part:
    return Part(
        _place(name, at),
        WORDS,
        lambda: {name: _labelled(make(), label, help_text)},
        lambda value: {name: read(value)},
        lambda cleaned: write(cleaned.get(name)),
    )


def _as_text(value: Any) -> str:
    if not isinstance(value, str):
        raise CannotShow
    return value


def _or_omit(value: Any) -> Any:
    return OMIT if value in (None, "") else value


class _Text(forms.CharField):
    """Lines end as they were stored and as they were counted: browsers send a CR before each LF, which would make an
    SMS longer than its preview, and a version of a template of what nobody has changed."""

    def to_python(self, value: Any) -> Any:
        return str(super().to_python(value)).replace("\r\n", "\n")


def text(name: str, label: Any, *, rows: int = 0, length: int = 65_536, **more: Any) -> Part:
    """A line, or several; `insert=True`: variables may stand in it; `media="…"`: its value may be chosen from the files
    of that kind."""
    attrs: dict[str, Any] = {}
    if more.pop("insert", False):
        attrs["data-insert-here"] = "1"
    if media := more.pop("media", ""):
        attrs["data-media"] = media
    attrs |= more.pop("attrs", {})

    def make() -> forms.Field:
        widget: forms.Widget = _area(rows, **attrs) if rows else _input(**attrs)
        return _Text(required=False, max_length=length, strip=False, widget=widget)

    return _one(name, label, make=make, read=_as_text, write=_or_omit, **more)


def whole(name: str, label: Any, *, least: int = 0, most: int = 2**31 - 1, **more: Any) -> Part:
    def make() -> forms.Field:
        widget = forms.NumberInput({"class": "as-input"})
        return forms.IntegerField(required=False, min_value=least, max_value=most, widget=widget)

    def read(value: Any) -> Any:
        if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
            raise CannotShow
        return value

    return _one(name, label, make=make, read=read, write=_or_omit, **more)


def yes(name: str, label: Any, **more: Any) -> Part:
    """A box to tick; not ticked is what holds anyway."""

    def read(value: Any) -> bool:
        if not isinstance(value, bool):
            raise CannotShow
        return value

    def make() -> forms.Field:
        return forms.BooleanField(required=False, widget=forms.CheckboxInput({"class": "ae-check"}))

    return _one(name, label, make=make, read=read, write=lambda value: value or OMIT, **more)


def either(name: str, label: Any, unset: Any, **more: Any) -> Part:
    """Yes, no, or what holds anyway (`unset` says what that is)."""

    def read(value: Any) -> str:
        if value is not None and not isinstance(value, bool):
            raise CannotShow
        return {None: "", True: "true", False: "false"}[value]

    def write(value: Any) -> Any:
        return {"true": True, "false": False}.get(value, OMIT)

    choices = [("", unset), ("true", _("Yes")), ("false", _("No"))]
    return _one(name, label, make=lambda: _select(choices), read=read, write=write, **more)


def choice(name: str, label: Any, choices: list[tuple[str, Any]], *, default: str, at: str = "") -> Part:
    """One of a few; the first is what holds anyway, which is `default`. Where that was said in so many words, it is
    said again (a hidden field remembers it)."""
    known = {value for value, _label in choices} - {""}

    def fields() -> Fields:
        said = forms.CharField(required=False, max_length=30, widget=forms.HiddenInput)
        return {name: _labelled(_select(choices), label, ""), f"{name}_said": said}

    def read(value: Any) -> dict[str, str]:
        if value == default:
            return {name: "", f"{name}_said": default}
        if not isinstance(value, str) or value not in known:
            raise CannotShow
        return {name: value}

    def write(cleaned: Mapping[str, Any]) -> Any:
        if cleaned.get(name):
            return cleaned[name]
        return default if cleaned.get(f"{name}_said") == default else OMIT

    return Part(_place(name, at), WORDS, fields, read, write)


def listed(name: str, label: Any, *, attrs: Mapping[str, Any] | None = None, **more: Any) -> Part:
    """A list of words with commas between them."""

    def read(value: Any) -> str:
        if not isinstance(value, list) or not all(
            isinstance(item, str) and not re.search(r"[,\s]", item) for item in value
        ):
            raise CannotShow
        return ", ".join(value)

    def write(value: Any) -> Any:
        return [item for item in re.split(r"[,\s]+", value or "") if item] or OMIT

    def make() -> forms.Field:
        return forms.CharField(required=False, max_length=10_000, widget=_input(**(attrs or {})))

    return _one(name, label, make=make, read=read, write=write, **more)


# --- In-app: actions and buttons -----------------------------------------------------------------------------------

ACTIONS = [
    ("", _("Nothing")),
    ("url", _("Open a web page")),
    ("deep_link", _("Open a place in the app")),
    ("close", _("Close the message")),
]


def _read_action(value: Any, prefix: str) -> dict[str, Any]:
    if value is None:
        return {f"{prefix}_action": "", f"{prefix}_url": ""}
    if not isinstance(value, Mapping) or value.get("type") not in ("url", "deep_link", "close"):
        raise CannotShow
    if set(value) - ({"type"} if value["type"] == "close" else {"type", "url"}):
        raise CannotShow
    return {f"{prefix}_action": value["type"], f"{prefix}_url": _as_text(value.get("url", ""))}


def _written_action(cleaned: Mapping[str, Any], prefix: str) -> dict[str, Any] | None:
    kind = cleaned.get(f"{prefix}_action")
    if not kind:
        return None
    return {"type": kind} if kind == "close" else {"type": kind, "url": cleaned.get(f"{prefix}_url", "")}


def _action_fields(prefix: str, label: Any) -> dict[str, forms.Field]:
    address = forms.CharField(required=False, max_length=2_048, widget=_input(placeholder="https://  ·  shop://"))
    return {
        f"{prefix}_action": _labelled(_select(ACTIONS), label, ""),
        f"{prefix}_url": _labelled(address, _("Address"), ""),
    }


def tap(place: str) -> Part:
    """What a tap on the message does."""
    return Part(
        place,
        WORDS,
        lambda: _action_fields("tap", _("A tap on the message")),
        lambda value: _read_action(value, "tap"),
        lambda cleaned: _written_action(cleaned, "tap") or OMIT,
    )


COLOUR = {"placeholder": "#RRGGBB", "data-colour": "1", "maxlength": "9"}
BUTTONS = 2
_BUTTON_KEYS = {"id", "text", "action", "background_color", "text_color"}


def buttons(place: str) -> Part:
    def fields() -> Fields:
        made: dict[str, forms.Field] = {}
        for number in range(1, BUTTONS + 1):
            name = f"button{number}"
            label = forms.CharField(required=False, max_length=50, widget=_input())
            made[f"{name}_text"] = _labelled(label, _("Button %(number)s: text") % {"number": number}, "")
            made |= _action_fields(name, _("Button %(number)s: does") % {"number": number})
            for key, title in (("color", _("Colour")), ("text_color", _("Colour of its text"))):
                colour = forms.CharField(required=False, max_length=9, widget=_input(**COLOUR))
                made[f"{name}_{key}"] = _labelled(colour, title, "")
            made[f"{name}_id"] = forms.CharField(required=False, max_length=32, widget=forms.HiddenInput)
        return made

    def read(value: Any) -> dict[str, Any]:
        if not isinstance(value, list) or len(value) > BUTTONS:
            raise CannotShow
        shown: dict[str, Any] = {}
        for number, button in enumerate(value, 1):
            if not isinstance(button, Mapping) or set(button) - _BUTTON_KEYS:
                raise CannotShow
            name = f"button{number}"
            shown |= _read_action(button.get("action"), name)
            shown[f"{name}_text"] = _as_text(button.get("text", ""))
            shown[f"{name}_id"] = _as_text(button.get("id", ""))
            shown[f"{name}_color"] = _as_text(button.get("background_color", ""))
            shown[f"{name}_text_color"] = _as_text(button.get("text_color", ""))
        return shown

    def write(cleaned: Mapping[str, Any]) -> Any:
        made = []
        for number in range(1, BUTTONS + 1):
            name = f"button{number}"
            if not cleaned.get(f"{name}_text"):
                continue
            button: dict[str, Any] = {
                "id": cleaned.get(f"{name}_id") or f"button-{number}",
                "text": cleaned[f"{name}_text"],
                "action": _written_action(cleaned, name) or {"type": "close"},
            }
            for key, colour in (("background_color", "color"), ("text_color", "text_color")):
                if cleaned.get(f"{name}_{colour}"):
                    button[key] = cleaned[f"{name}_{colour}"]
            made.append(button)
        return made or OMIT

    return Part(place, WORDS, fields, read, write)
