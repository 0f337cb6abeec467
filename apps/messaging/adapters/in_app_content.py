"""What an in-app message may say beyond title, body and data: layout, buttons, when and how often it is shown.

The fields are those of providers.md 7.3. The SDK shows the message and asks the triggers; what a device could not show
safely (an address that runs script, a picture without TLS) is refused here, before anything is sent.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from apps.messaging.adapters.base import Content, ContentError
from apps.messaging.adapters.push_content import check_text, encode

__all__ = ["DEFAULTS", "LAYOUTS", "check_content", "check_options", "is_for_device", "period_of", "shown_options"]

CONTENT_BYTES_MAX = 16 * 1024
"""Title, body, data and options as JSON: it is kept for each dispatch and goes to each open connection."""
TITLE_MAX, BODY_MAX = 200, 4_000
LAYOUTS = ("banner_top", "banner_bottom", "modal", "full_screen", "card", "image_only", "inbox_only")
BUTTONS_MAX = 2
GROUPS_MAX = CONDITIONS_MAX = 10
LIST_MAX = 50
SECONDS_MAX = 366 * 24 * 3_600
PERMISSIONS = ("push", "location", "camera", "tracking")
URL_SCHEMES = frozenset({"https", "tel", "mailto"})
RISKY_SCHEMES = frozenset(
    {"javascript", "data", "vbscript", "file", "blob", "filesystem", "about", "content", "intent", "view-source"}
    | {"jar", "ws", "wss", "ftp", "http"}
)
"""What a deep link may not be: it runs script, reads files, starts any component, or goes without TLS."""
DEFAULTS: dict[str, Any] = {
    "layout": "modal",
    "image": "",
    "landscape_image": "",
    "background_color": "",
    "text_color": "",
    "action": None,
    "buttons": [],
    "triggers": [],
    "frequency": {"limit": 1, "minimum_gap_s": 0, "per_session": None},
    "priority": 5,
    "period": {"starts_at": None, "ends_at": None},
    "app_version": {"min": None, "max": None},
    "languages": [],
    "is_test": False,
}
"""What holds where an option is not given."""

Check = Callable[[str, Any], None]


def check_content(content: Content) -> None:
    """Raise `ContentError` with the field for what the SDK could not show."""
    check_text("title", content.title)
    check_text("body", content.body)
    if len(content.title) > TITLE_MAX:
        raise ContentError("title", f"is longer than {TITLE_MAX} characters")
    if len(content.body) > BODY_MAX:
        raise ContentError("body", f"is longer than {BODY_MAX} characters")
    if not isinstance(content.data, Mapping):
        raise ContentError("data", "must be an object")
    check_options(content.options)
    _check_layout(content)
    size = sum(len(encode(name, getattr(content, name))) for name in ("title", "body", "data", "options"))
    if size > CONTENT_BYTES_MAX:
        raise ContentError("body", f"the message takes {size} bytes; an in-app message has {CONTENT_BYTES_MAX}")


def check_options(options: Mapping[str, Any]) -> None:
    """Raise `ContentError` with `options.<name>` for an unknown option or a wrong value."""
    for name, value in options.items():
        check = _CHECKS.get(name)
        if check is None:
            known = ", ".join(_CHECKS)
            raise ContentError(f"options.{name}", f"is not an option of an in-app message; there are {known}")
        check(f"options.{name}", value)


def shown_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Checked options with everything that was not given at its default, as the SDK gets them."""
    shown: dict[str, Any] = {}
    for name, default in DEFAULTS.items():
        value = options.get(name, default)
        shown[name] = {**default, **value} if isinstance(default, dict) and isinstance(value, Mapping) else value
    return shown


def period_of(options: Mapping[str, Any]) -> tuple[datetime | None, datetime | None]:
    """From when and until when checked options let the message be seen."""
    period = options.get("period") or {}
    starts_at, ends_at = period.get("starts_at"), period.get("ends_at")
    return (
        datetime.fromisoformat(starts_at) if starts_at else None,
        datetime.fromisoformat(ends_at) if ends_at else None,
    )


def is_for_device(options: Mapping[str, Any], *, app_version: str, language: str) -> bool:
    """Whether a device with this version of the app and this language may show it.

    A device that did not say its version meets no bound, and one without a language no list of them. `ko` is meant for
    `ko-KR` as well, and `zh-Hant` not for `zh`.
    """
    bounds, languages = options.get("app_version") or {}, options.get("languages") or []
    if languages and not any(_speaks(language, wanted) for wanted in languages):
        return False
    least, most = bounds.get("min"), bounds.get("max")
    if not (least or most):
        return True
    version = _version_key(app_version)
    if version is None:
        return False
    return (not least or version >= (_version_key(least) or [])) and (not most or version <= (_version_key(most) or []))


def _speaks(language: str, wanted: str) -> bool:
    spoken, wanted = language.replace("_", "-").lower(), wanted.replace("_", "-").lower()
    return spoken == wanted or spoken.startswith(f"{wanted}-")


_VERSION = re.compile(r"\s*[vV]?([0-9]{1,18}(?:\.[0-9]{1,18})*)")


def _version_key(version: str) -> list[int] | None:
    """As `version_key()` of the database: `v1.10.0-beta` is [1, 10]; what is no version is None."""
    found = _VERSION.match(version)
    if found is None:
        return None
    numbers = [int(number) for number in found[1].split(".")]
    while len(numbers) > 1 and numbers[-1] == 0:
        numbers.pop()
    return numbers


def _check_layout(content: Content) -> None:
    """What a layout cannot do without: providers.md 7.2."""
    options = content.options
    layout = options.get("layout", DEFAULTS["layout"])
    has_image = bool(options.get("image") or options.get("landscape_image"))
    if layout in ("card", "image_only") and not has_image:
        raise ContentError("options.image", f"is needed: the layout is {layout}")
    if layout == "card" and not content.title:
        raise ContentError("title", "is needed: the layout is card")
    if layout in ("image_only", "inbox_only") and options.get("buttons"):
        raise ContentError("options.buttons", f"cannot be shown: the layout is {layout}")
    if not (content.title or content.body or has_image):
        raise ContentError("body", "is needed: the message has no title and no image either")


# --- One check for each kind of value -----------------------------------------------------------------------------


def _text(length_max: int, *, may_be_empty: bool = True) -> Check:
    def check(field: str, value: Any) -> None:
        check_text(field, value)
        if len(value) > length_max:
            raise ContentError(field, f"is longer than {length_max} characters")
        if not (value.strip() or may_be_empty):
            raise ContentError(field, "must not be empty")

    return check


def _pattern(pattern: str, problem: str) -> Check:
    compiled = re.compile(pattern)

    def check(field: str, value: Any) -> None:
        check_text(field, value)
        if not compiled.fullmatch(value):
            raise ContentError(field, problem)

    return check


def _one_of(values: Iterable[str]) -> Check:
    allowed = tuple(values)

    def check(field: str, value: Any) -> None:
        if not isinstance(value, str) or value not in allowed:
            raise ContentError(field, f"must be one of {', '.join(allowed)}")

    return check


def _whole(least: int, most: int) -> Check:
    def check(field: str, value: Any) -> None:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise ContentError(field, f"must be a whole number from {least} to {most}")

    return check


def _true_or_false(field: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise ContentError(field, "must be true or false")


def _number(field: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 2**53:
        raise ContentError(field, "must be a number")


def _scalar(field: str, value: Any) -> None:
    """A text, a number, true or false."""
    if isinstance(value, str):
        _text(200)(field, value)
    elif not isinstance(value, bool):
        _number(field, value)


def _or_null(check: Check) -> Check:
    def checked(field: str, value: Any) -> None:
        if value is not None:
            check(field, value)

    return checked


def _list(check: Check, *, most: int, least: int = 0) -> Check:
    def checked(field: str, value: Any) -> None:
        if not isinstance(value, list | tuple):
            raise ContentError(field, "must be a list")
        if not least <= len(value) <= most:
            raise ContentError(field, f"must have {least} to {most} elements")
        for index, element in enumerate(value):
            check(f"{field}[{index}]", element)

    return checked


def _object(fields: Mapping[str, Check], *, needed: Iterable[str] = ()) -> Check:
    """Exactly these fields, of which some are needed."""
    names = tuple(needed)

    def check(field: str, value: Any) -> None:
        if not isinstance(value, Mapping):
            raise ContentError(field, "must be an object")
        for name, element in value.items():
            if name not in fields:
                raise ContentError(f"{field}.{str(name)[:50]}", f"is not known; there are {', '.join(fields)}")
            fields[name](f"{field}.{name}", element)
        for name in names:
            if name not in value:
                raise ContentError(f"{field}.{name}", "is needed")

    return check


def _map(check: Check, *, most: int) -> Check:
    """Any names, each of text."""

    def checked(field: str, value: Any) -> None:
        if not isinstance(value, Mapping):
            raise ContentError(field, "must be an object")
        if len(value) > most:
            raise ContentError(field, f"has more than {most} names")
        for name, element in value.items():
            _key(field, name)
            check(f"{field}.{name}", element)

    return checked


_key = _text(100, may_be_empty=False)


def _by_kind(kinds: Mapping[str, Check]) -> Check:
    """An object whose `type` says what else it has."""
    kind = _one_of(kinds)

    def check(field: str, value: Any) -> None:
        if not isinstance(value, Mapping):
            raise ContentError(field, "must be an object")
        kind(f"{field}.type", value.get("type"))
        kinds[value["type"]](field, value)

    return check


# --- Addresses ----------------------------------------------------------------------------------------------------


def _scheme_of(field: str, value: Any) -> str:
    """The scheme, of an address that every parser reads alike: no blanks, controls or backslashes to hide behind."""
    check_text(field, value)
    if len(value) > 2_048:
        raise ContentError(field, "is longer than 2048 characters")
    if not value.isprintable() or any(letter in value for letter in " \\<>\"'`"):
        raise ContentError(field, "holds a character that an address cannot have")
    try:
        return str(urlsplit(value).scheme).lower()
    except ValueError:
        raise ContentError(field, "is not an address") from None


def _web_address(field: str, value: Any) -> None:
    if _scheme_of(field, value) != "https" or not urlsplit(value).hostname or "@" in urlsplit(value).netloc:
        raise ContentError(field, "must be an https address")


def _image(field: str, value: Any) -> None:
    """An https address: of the sender's own, or the one that an upload to `/media` answered with."""
    if value != "":
        _web_address(field, value)


def _url(field: str, value: Any) -> None:
    scheme = _scheme_of(field, value)
    if scheme not in URL_SCHEMES:
        raise ContentError(field, f"must be an address of {', '.join(sorted(URL_SCHEMES))}")
    if scheme == "https":
        _web_address(field, value)


def _deep_link(field: str, value: Any) -> None:
    scheme = _scheme_of(field, value)
    if not re.fullmatch(r"[a-z][a-z0-9+.-]{1,62}", scheme) or scheme in RISKY_SCHEMES:
        raise ContentError(field, "must be an address of the app, such as shop://orders/7, or an https one")


# --- The options --------------------------------------------------------------------------------------------------

_color = _pattern(r"#(?:[0-9a-fA-F]{6}|[0-9a-fA-F]{8})", "must be a colour: #RRGGBB or #RRGGBBAA")
_type = {"type": lambda field, value: None}  # `_by_kind` has looked at it
_action = _by_kind(
    {
        "url": _object({**_type, "url": _url, "closes": _true_or_false}, needed=("url",)),
        "deep_link": _object({**_type, "url": _deep_link, "closes": _true_or_false}, needed=("url",)),
        "close": _object(_type),
        "tag": _object({**_type, "tags": _map(_or_null(_scalar), most=10), "closes": _true_or_false}, needed=("tags",)),
        "permission_prompt": _object(
            {**_type, "permission": _one_of(PERMISSIONS), "closes": _true_or_false}, needed=("permission",)
        ),
    }
)
_button = _object(
    {
        "id": _pattern(r"[A-Za-z0-9_.-]{1,32}", "must be 1 to 32 letters, digits, dots, dashes or underscores"),
        "text": _text(50, may_be_empty=False),
        "action": _action,
        "background_color": _color,
        "text_color": _color,
    },
    needed=("id", "text", "action"),
)


def _buttons(field: str, value: Any) -> None:
    _list(_button, most=BUTTONS_MAX)(field, value)
    ids = [button["id"] for button in value]
    if len(set(ids)) < len(ids):
        raise ContentError(f"{field}[1].id", "is the first button's as well")


_OPERATORS: dict[str, Check | None] = {
    "equal": _scalar,
    "not_equal": _scalar,
    "greater": _number,
    "greater_or_equal": _number,
    "less": _number,
    "less_or_equal": _number,
    "in": _list(_scalar, least=1, most=LIST_MAX),
    "exists": None,
    "not_exists": None,
}


def _custom(field: str, value: Any) -> None:
    """A key that the app sets, compared."""
    _object(
        {**_type, "key": _key, "operator": _one_of(_OPERATORS), "value": lambda field, value: None},
        needed=("key", "operator"),
    )(field, value)
    check = _OPERATORS[value["operator"]]
    if check is None and "value" in value:
        raise ContentError(f"{field}.value", f"is not compared by {value['operator']}")
    if check is not None:
        if "value" not in value:
            raise ContentError(f"{field}.value", "is needed")
        check(f"{field}.value", value["value"])


_seconds = _object({**_type, "value": _whole(0, SECONDS_MAX)}, needed=("value",))
_condition = _by_kind(
    {
        "app_open": _object(_type),
        "foreground": _object(_type),
        "session_length_s": _seconds,
        "time_since_last_s": _seconds,
        "custom": _custom,
        "event": _object({**_type, "name": _key, "params": _map(_scalar, most=20)}, needed=("name",)),
    }
)


def _moment(field: str, value: Any) -> None:
    check_text(field, value)
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise ContentError(field, "must be a time in ISO 8601") from None
    if moment.tzinfo is None:
        raise ContentError(field, "must say its zone, such as +09:00 or Z")
    if not 2_000 <= moment.year <= 9_000:
        raise ContentError(field, "is not a time that can be")


def _period(field: str, value: Any) -> None:
    _object({"starts_at": _or_null(_moment), "ends_at": _or_null(_moment)})(field, value)
    starts_at, ends_at = period_of({"period": value})
    if starts_at and ends_at and starts_at >= ends_at:
        raise ContentError(f"{field}.ends_at", "must be after starts_at")


def _app_version(field: str, value: Any) -> None:
    version = _pattern(r"[0-9]{1,9}(\.[0-9]{1,9}){0,5}", "must be a version such as 2.10.0")
    _object({"min": _or_null(version), "max": _or_null(version)})(field, value)
    least, most = value.get("min"), value.get("max")
    if least and most and (_version_key(least) or []) > (_version_key(most) or []):
        raise ContentError(f"{field}.max", "must not be below min")


_CHECKS: dict[str, Check] = {
    "layout": _one_of(LAYOUTS),
    "image": _image,
    "landscape_image": _image,
    "background_color": _color,
    "text_color": _color,
    "action": _or_null(_action),
    "buttons": _buttons,
    "triggers": _list(_list(_condition, least=1, most=CONDITIONS_MAX), most=GROUPS_MAX),
    "frequency": _object(
        {
            "limit": _whole(1, 1_000),
            "minimum_gap_s": _whole(0, SECONDS_MAX),
            "per_session": _or_null(_whole(1, 100)),
        }
    ),
    "priority": _whole(1, 10),
    "period": _period,
    "app_version": _app_version,
    "languages": _list(
        _pattern(r"[A-Za-z]{2,3}([-_][A-Za-z0-9]{2,8}){0,3}", "must be a language such as ko or pt-BR"), most=LIST_MAX
    ),
    "is_test": _true_or_false,
}
assert set(_CHECKS) == set(DEFAULTS)
