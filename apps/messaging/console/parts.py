"""What the content editor has a field for: a part of the title, the body, `data` or `options`; there and back.

A stored value that its field cannot show (an action that tags, a key nobody knows) stays where it is: in the JSON of
what is unusual, which goes back as it came.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any, NamedTuple

from django import forms
from django.utils.translation import gettext_lazy as _

from apps.tenants.channels import ChannelType

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


SECTIONS = {
    "words": "",
    "look": _("How it looks"),
    "behaviour": _("How it behaves"),
    "who": _("When and for whom it is shown"),
}


# --- Fields of one value -------------------------------------------------------------------------------------------


def _input(kind: str = "text", **attrs: Any) -> forms.TextInput:
    widget = forms.TextInput({"class": "as-input", "autocomplete": "off", **attrs})
    widget.input_type = kind
    return widget


def _area(rows: int, **attrs: Any) -> forms.Textarea:
    return forms.Textarea({"class": "as-input", "rows": rows, **attrs})


def _select(choices: list[tuple[str, Any]]) -> forms.Field:
    return forms.ChoiceField(choices=choices, required=False, widget=forms.Select({"class": "as-input"}))


def _labelled(field: forms.Field, label: Any, help_text: Any) -> forms.Field:
    field.label, field.help_text = label, help_text
    return field


def one(
    name: str,
    place: str,
    label: Any,
    *,
    make: Callable[[], forms.Field],
    read: Callable[[Any], Any],
    write: Callable[[Any], Any],
    section: str = "words",
    help_text: Any = "",
) -> Part:
    return Part(
        place,
        section,
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


def text(name: str, place: str, label: Any, *, rows: int = 0, length: int = 65_536, **more: Any) -> Part:
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
        return forms.CharField(required=False, max_length=length, strip=False, widget=widget)

    return one(name, place, label, make=make, read=_as_text, write=_or_omit, **more)


def whole(name: str, place: str, label: Any, *, least: int = 0, most: int = 2**31 - 1, **more: Any) -> Part:
    def make() -> forms.Field:
        widget = forms.NumberInput({"class": "as-input"})
        return forms.IntegerField(required=False, min_value=least, max_value=most, widget=widget)

    def read(value: Any) -> Any:
        if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
            raise CannotShow
        return value

    return one(name, place, label, make=make, read=read, write=_or_omit, **more)


def yes(name: str, place: str, label: Any, **more: Any) -> Part:
    """A box to tick; not ticked is what holds anyway."""

    def read(value: Any) -> bool:
        if not isinstance(value, bool):
            raise CannotShow
        return value

    def make() -> forms.Field:
        return forms.BooleanField(required=False, widget=forms.CheckboxInput({"class": "ae-check"}))

    return one(name, place, label, make=make, read=read, write=lambda value: value or OMIT, **more)


def either(name: str, place: str, label: Any, unset: Any, **more: Any) -> Part:
    """Yes, no, or what holds anyway (`unset` says what that is)."""

    def read(value: Any) -> str:
        if value is not None and not isinstance(value, bool):
            raise CannotShow
        return {None: "", True: "true", False: "false"}[value]

    def write(value: Any) -> Any:
        return {"true": True, "false": False}.get(value, OMIT)

    choices = [("", unset), ("true", _("Yes")), ("false", _("No"))]
    return one(name, place, label, make=lambda: _select(choices), read=read, write=write, **more)


def choice(
    name: str, place: str, label: Any, choices: list[tuple[str, Any]], *, default: str, section: str = "words"
) -> Part:
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

    return Part(place, section, fields, read, write)


def listed(name: str, place: str, label: Any, *, attrs: Mapping[str, Any] | None = None, **more: Any) -> Part:
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

    return one(name, place, label, make=make, read=read, write=write, **more)


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
        "behaviour",
        lambda: _action_fields("tap", _("A tap on the message")),
        lambda value: _read_action(value, "tap"),
        lambda cleaned: _written_action(cleaned, "tap") or OMIT,
    )


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

    return Part(place, "look", fields, read, write)


COLOUR = {"placeholder": "#RRGGBB", "data-colour": "1", "maxlength": "9"}

# --- The channels --------------------------------------------------------------------------------------------------

LINK = "link"
"""Where a push message's link stands in its data; the app reads it when the message is tapped."""

_PUSH = [
    text("title", "title", _("Title"), insert=True),
    text("subtitle", "options.subtitle", _("Subtitle"), length=1_024, help_text=_("On iOS, a second line.")),
    text("body", "body", _("Text"), rows=4, insert=True),
    text(
        "image",
        "options.image",
        _("Picture"),
        length=2_048,
        media="image",
        help_text=_("An https address, or one of your files."),
    ),
    text(
        "link",
        f"data.{LINK}",
        _("Link"),
        length=2_048,
        insert=True,
        help_text=_("Where a tap leads: https://… or a place in the app. It is in the data as “link”."),
    ),
    whole("badge", "options.badge", _("Number on the app's icon"), section="behaviour", help_text=_("0 clears it.")),
    text(
        "sound",
        "options.sound",
        _("Sound"),
        length=128,
        section="behaviour",
        help_text=_("Its name in the app, or “default”."),
    ),
    text(
        "collapse_key", "options.collapse_key", _("Replaces messages of the same key"), length=64, section="behaviour"
    ),
    choice(
        "delivery",
        "options.priority",
        _("Delivery"),
        [("", _("At once")), ("normal", _("When it suits the battery"))],
        default="high",
        section="behaviour",
    ),
    text("thread_id", "options.thread_id", _("Shown together with (iOS thread)"), length=128, section="behaviour"),
    text("category", "options.category", _("Buttons (iOS category)"), length=128, section="behaviour"),
    text("channel_id", "options.channel_id", _("Notification channel (Android)"), length=128, section="behaviour"),
    text(
        "click_action",
        "options.click_action",
        _("Activity that a tap starts (Android)"),
        length=256,
        section="behaviour",
    ),
    yes("silent", "options.silent", _("Silent: wakes the app and shows nothing"), section="behaviour"),
]
_EMAIL = [
    text("title", "title", _("Subject"), insert=True),
    text(
        "preheader",
        "options.preheader",
        _("Preheader"),
        length=250,
        help_text=_("What inboxes show behind the subject."),
    ),
    text(
        "body",
        "body",
        _("Mail"),
        rows=18,
        length=524_288,
        insert=True,
        attrs={"spellcheck": "false", "data-html": "1", "class": "as-input as-mono"},
    ),
    choice(
        "format",
        "options.format",
        _("Form"),
        [("", _("HTML")), ("text", _("Plain text"))],
        default="html",
        section="look",
    ),
    text(
        "from_name",
        "options.from_name",
        _("Sender's name"),
        length=100,
        section="look",
        help_text=_("The credential's own unless told."),
    ),
    text(
        "text",
        "options.text",
        _("Text for programs without HTML"),
        rows=5,
        length=100_000,
        section="look",
        help_text=_("Made of the mail unless told."),
    ),
    text("reply_to", "options.reply_to", _("Answers go to"), length=320, section="behaviour"),
    either("track_opens", "options.track_opens", _("Count openings"), _("As the credential says"), section="behaviour"),
    either("track_clicks", "options.track_clicks", _("Count clicks"), _("As the credential says"), section="behaviour"),
    either(
        "list_unsubscribe",
        "options.list_unsubscribe",
        _("Unsubscribing by one click"),
        _("As its purpose asks"),
        section="behaviour",
    ),
    listed("tags", "options.tags", _("Tags at the provider"), section="behaviour"),
    listed(
        "attachments",
        "options.attachments",
        _("Files"),
        section="behaviour",
        attrs={"data-media": "attachment"},
        help_text=_("Ids of uploaded files."),
    ),
]
_SMS = [
    text("title", "title", _("Title"), length=200, insert=True, help_text=_("Only of a long message (LMS).")),
    text("body", "body", _("Text"), rows=6, insert=True),
    choice(
        "kind",
        "options.type",
        _("Sent as"),
        [
            ("", _("Short or long, by its length")),
            ("sms", _("SMS only")),
            ("lms", _("LMS")),
        ],
        default="auto",
        section="behaviour",
    ),
    text(
        "sender",
        "options.from",
        _("Sender"),
        length=34,
        section="behaviour",
        help_text=_("A registered number; the credential's own unless told."),
    ),
]
_KAKAO = [
    text("template_code", "options.template_code", _("Alimtalk template"), length=64, attrs={"data-kakao-code": "1"}),
    text("fallback_text", "options.fallback.text", _("SMS if it does not arrive"), rows=3),
    text(
        "sender_key",
        "options.sender_key",
        _("Sender key"),
        length=64,
        section="behaviour",
        help_text=_("Only if several channels have this template."),
    ),
    text("fallback_title", "options.fallback.title", _("Title of that SMS"), length=200, section="behaviour"),
]
_LAYOUTS = [
    ("", _("Window in the middle")),
    ("banner_top", _("Banner at the top")),
    ("banner_bottom", _("Banner at the bottom")),
    ("full_screen", _("Whole screen")),
    ("card", _("Card")),
    ("image_only", _("Picture only")),
    ("inbox_only", _("In the inbox only")),
]
_IN_APP = [
    choice("layout", "options.layout", _("Layout"), _LAYOUTS, default="modal"),
    text("title", "title", _("Title"), insert=True),
    text("body", "body", _("Text"), rows=4, insert=True),
    text("image", "options.image", _("Picture"), length=2_048, media="image"),
    buttons("options.buttons"),
    text(
        "landscape_image",
        "options.landscape_image",
        _("Picture when held sideways"),
        length=2_048,
        media="image",
        section="look",
    ),
    text("background_color", "options.background_color", _("Background"), length=9, attrs=COLOUR, section="look"),
    text("text_color", "options.text_color", _("Colour of the text"), length=9, attrs=COLOUR, section="look"),
    tap("options.action"),
    whole("limit", "options.frequency.limit", _("Shown at most so often"), least=1, most=1_000, section="who"),
    whole("gap", "options.frequency.minimum_gap_s", _("Seconds between two times"), section="who"),
    whole(
        "per_session",
        "options.frequency.per_session",
        _("At most so often in one visit"),
        least=1,
        most=100,
        section="who",
    ),
    whole("urgency", "options.priority", _("Before others (1 to 10)"), least=1, most=10, section="who"),
    text(
        "starts_at",
        "options.period.starts_at",
        _("From"),
        length=40,
        section="who",
        help_text=_("Such as 2026-01-31T09:00:00+09:00."),
    ),
    text("ends_at", "options.period.ends_at", _("Until"), length=40, section="who"),
    text("version_min", "options.app_version.min", _("App version at least"), length=50, section="who"),
    text("version_max", "options.app_version.max", _("App version at most"), length=50, section="who"),
    listed("languages", "options.languages", _("Only in these languages"), section="who"),
    yes("is_test", "options.is_test", _("Only on test devices"), section="who"),
]
PARTS: dict[str, list[Part]] = {
    ChannelType.PUSH: _PUSH,
    ChannelType.EMAIL: _EMAIL,
    ChannelType.SMS: _SMS,
    ChannelType.KAKAO_TALK: _KAKAO,
    ChannelType.IN_APP: _IN_APP,
}


# --- There and back ------------------------------------------------------------------------------------------------


def is_of_words(part: Part) -> bool:
    """Whether it may differ by language: options are the same for everybody."""
    return not part.place.startswith("options.")


def shown_of(channel: str, content: Mapping[str, Any]) -> dict[str, Any]:
    """What the fields begin with for a stored content: `title`, `body`, `data` and `options`; what has no field of its
    own is in `more_data` and `more_options`."""
    rest = {name: deepcopy(dict(content.get(name) or {})) for name in ("data", "options")}
    shown: dict[str, Any] = {}
    for part in PARTS[channel]:
        if part.place in ("title", "body"):
            shown |= part.read(content.get(part.place) or "")
            continue
        source, _dot, path = part.place.partition(".")
        try:
            value = _at(rest[source], path)
            shown |= part.read(value)
        except (KeyError, CannotShow):
            continue
        _drop(rest[source], path)
    return {**shown, "more_data": rest["data"], "more_options": rest["options"]}


def content_of(channel: str, cleaned: Mapping[str, Any]) -> dict[str, Any]:
    """The content that the fields were filled with. Empty fields are left out, as is what they stand for."""
    rest = {name: deepcopy(dict(cleaned.get(f"more_{name}") or {})) for name in ("data", "options")}
    made: dict[str, Any] = {"title": "", "body": "", "data": rest["data"], "options": rest["options"]}
    for part in PARTS[channel]:
        value = part.write(cleaned)
        if part.place in ("title", "body"):
            made[part.place] = "" if value is OMIT else value
        elif value is not OMIT:
            source, _dot, path = part.place.partition(".")
            _put(rest[source], path, value)
    return made


def _at(values: Any, path: str) -> Any:
    """Raises KeyError."""
    for name in path.split("."):
        if not isinstance(values, Mapping):
            raise KeyError(path)
        values = values[name]
    return values


def _drop(values: dict[str, Any], path: str) -> None:
    name, _dot, rest = path.partition(".")
    if not rest:
        del values[name]
        return
    _drop(values[name], rest)
    if not values[name]:
        del values[name]


def _put(values: dict[str, Any], path: str, value: Any) -> None:
    *parents, name = path.split(".")
    for parent in parents:
        inner = values.get(parent)
        values[parent] = inner if isinstance(inner, dict) else {}
        values = values[parent]
    values[name] = value


def aliases_of(channel: str, *, prefix: str = "") -> dict[str, str]:
    """Services' names of inputs → names of fields: `options.badge` → `badge`. For `refusal_aliases`."""
    found = {f"{prefix}{part.place}": next(iter(part.fields())) for part in PARTS[channel]}
    return {f"{prefix}data": "more_data", f"{prefix}options": "more_options"} | found
