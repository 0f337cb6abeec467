"""What the content editor has a field for: a part of the title, the body, `data` or `options`; there and back.

A stored value that its field cannot show (an action that tags, a key nobody knows) stays where it is: in the JSON of
what is unusual, which goes back as it came.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from django.utils.translation import gettext_lazy as _

from apps.messaging.console.kinds import (
    COLOUR,
    OMIT,
    WORDS,
    CannotShow,
    Part,
    buttons,
    choice,
    either,
    listed,
    tap,
    text,
    under,
    whole,
    yes,
)
from apps.tenants.channels import ChannelType

SECTIONS = {
    WORDS: "",
    "look": _("How it looks"),
    "behaviour": _("How it behaves"),
    "who": _("When and for whom it is shown"),
}


# --- The channels --------------------------------------------------------------------------------------------------

LINK = "link"
"""Where a push message's link stands in its data; the app reads it when the message is tapped."""

_PUSH = [
    text("title", _("Title"), insert=True),
    text("subtitle", _("Subtitle"), length=1_024, help_text=_("On iOS, a second line.")),
    text("body", _("Text"), rows=4, insert=True),
    text("image", _("Picture"), length=2_048, media="image", help_text=_("An https address, or one of your files.")),
    text(
        "link",
        _("Link"),
        at=f"data.{LINK}",
        length=2_048,
        insert=True,
        help_text=_("Where a tap leads: https://… or a place in the app. It is in the data as “link”."),
    ),
    *under(
        "behaviour",
        whole("badge", _("Number on the app's icon"), help_text=_("0 clears it.")),
        text("sound", _("Sound"), length=128, help_text=_("Its name in the app, or “default”.")),
        text("collapse_key", _("Replaces messages of the same key"), length=64),
        choice(
            "delivery",
            _("Delivery"),
            [("", _("At once")), ("normal", _("When it suits the battery"))],
            at="options.priority",
            default="high",
        ),
        text("thread_id", _("Shown together with (iOS thread)"), length=128),
        text("category", _("Buttons (iOS category)"), length=128),
        text("channel_id", _("Notification channel (Android)"), length=128),
        text("click_action", _("Activity that a tap starts (Android)"), length=256),
        yes("silent", _("Silent: wakes the app and shows nothing")),
    ),
]
_EMAIL = [
    text("title", _("Subject"), insert=True),
    text("preheader", _("Preheader"), length=250, help_text=_("What inboxes show behind the subject.")),
    text(
        "body",
        _("Mail"),
        rows=18,
        length=524_288,
        insert=True,
        attrs={"spellcheck": "false", "data-html": "1", "class": "as-input as-mono"},
    ),
    *under(
        "look",
        choice("format", _("Form"), [("", _("HTML")), ("text", _("Plain text"))], default="html"),
        text("from_name", _("Sender's name"), length=100, help_text=_("The credential's own unless told.")),
        text(
            "text",
            _("Text for programs without HTML"),
            rows=5,
            length=100_000,
            help_text=_("Made of the mail unless told."),
        ),
    ),
    *under(
        "behaviour",
        text("reply_to", _("Answers go to"), length=320),
        either("track_opens", _("Count openings"), _("As the credential says")),
        either("track_clicks", _("Count clicks"), _("As the credential says")),
        either("list_unsubscribe", _("Unsubscribing by one click"), _("As its purpose asks")),
        listed("tags", _("Tags at the provider")),
        listed("attachments", _("Files"), attrs={"data-media": "attachment"}, help_text=_("Ids of uploaded files.")),
    ),
]
_SMS = [
    text("title", _("Title"), length=200, insert=True, help_text=_("Only of a long message (LMS).")),
    text("body", _("Text"), rows=6, insert=True),
    *under(
        "behaviour",
        choice(
            "kind",
            _("Sent as"),
            [("", _("Short or long, by its length")), ("sms", _("SMS only")), ("lms", _("LMS"))],
            at="options.type",
            default="auto",
        ),
        text(
            "sender",
            _("Sender"),
            at="options.from",
            length=34,
            help_text=_("A registered number; the credential's own unless told."),
        ),
    ),
]
_KAKAO = [
    text("template_code", _("Alimtalk template"), length=64, attrs={"data-kakao-code": "1"}),
    text("fallback_text", _("SMS if it does not arrive"), at="options.fallback.text", rows=3),
    *under(
        "behaviour",
        text("sender_key", _("Sender key"), length=64, help_text=_("Only if several channels have this template.")),
        text("fallback_title", _("Title of that SMS"), at="options.fallback.title", length=200),
    ),
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
    choice("layout", _("Layout"), _LAYOUTS, default="modal"),
    text("title", _("Title"), insert=True),
    text("body", _("Text"), rows=4, insert=True),
    text("image", _("Picture"), length=2_048, media="image"),
    *under(
        "look",
        buttons("options.buttons"),
        text("landscape_image", _("Picture when held sideways"), length=2_048, media="image"),
        text("background_color", _("Background"), length=9, attrs=COLOUR),
        text("text_color", _("Colour of the text"), length=9, attrs=COLOUR),
    ),
    *under(
        "behaviour",
        tap("options.action"),
    ),
    *under(
        "who",
        whole("limit", _("Shown at most so often"), at="options.frequency.limit", least=1, most=1_000),
        whole("gap", _("Seconds between two times"), at="options.frequency.minimum_gap_s"),
        whole("per_session", _("At most so often in one visit"), at="options.frequency.per_session", least=1, most=100),
        whole("urgency", _("Before others (1 to 10)"), at="options.priority", least=1, most=10),
        text(
            "starts_at",
            _("From"),
            at="options.period.starts_at",
            length=40,
            help_text=_("Such as 2026-01-31T09:00:00+09:00."),
        ),
        text("ends_at", _("Until"), at="options.period.ends_at", length=40),
        text("version_min", _("App version at least"), at="options.app_version.min", length=50),
        text("version_max", _("App version at most"), at="options.app_version.max", length=50),
        listed("languages", _("Only in these languages")),
        yes("is_test", _("Only on test devices")),
    ),
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
