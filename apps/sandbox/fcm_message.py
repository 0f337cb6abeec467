"""The shape of an FCM HTTP v1 message, checked as Google's JSON front end does (providers.md sections 2.2 and 2.3).

Field names and types follow the discovery document of fcm v1; snake_case and camelCase are both accepted.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import orjson

MAX_PAYLOAD_BYTES = 4096
MAX_TOPIC_PAYLOAD_BYTES = 2048
MAX_TTL_S = 2_419_200
TARGETS = ("token", "fid", "topic", "condition")
INVALID_TOKEN = "The registration token is not a valid FCM registration token"  # noqa: S105

_TOKEN = re.compile(r"[A-Za-z0-9_:.%-]{1,4096}")
_TOPIC = re.compile(r"(?:/topics/)?[a-zA-Z0-9-_.~%]+")
_DURATION = re.compile(r"(\d+)(?:\.\d{1,9})?s")
_TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:\d\d)")
_COLOR = re.compile(r"#[0-9a-fA-F]{6}")
_ANALYTICS_LABEL = re.compile(r"[a-zA-Z0-9-_.~%]{1,50}")


class InvalidMessage(Exception):
    """INVALID_ARGUMENT: the text, and the path of the field at fault ("" : answered without details)."""

    def __init__(self, message: str, field: str = "", description: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.description = description or message


Check = Callable[[Any, str], Any]


def _wrong(path: str, kind: str, value: Any) -> InvalidMessage:
    shown = orjson.dumps(value).decode()
    return InvalidMessage(f"Invalid value at '{path}' ({kind}), {shown[:200]}", path)


def _text(value: Any, path: str) -> Any:
    if not isinstance(value, str):
        raise _wrong(path, "TYPE_STRING", value)
    return value


def _bool(value: Any, path: str) -> Any:
    if not isinstance(value, bool):
        raise _wrong(path, "TYPE_BOOL", value)
    return value


def _int(value: Any, path: str) -> Any:
    is_number = isinstance(value, int) or (isinstance(value, str) and value.lstrip("-").isdigit())
    if isinstance(value, bool) or not is_number:
        raise _wrong(path, "TYPE_INT32", value)
    return value


def _number(value: Any, path: str) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _wrong(path, "TYPE_FLOAT", value)
    return value


def _struct(value: Any, path: str) -> Any:
    if not isinstance(value, dict):
        raise _wrong(path, "type.googleapis.com/google.protobuf.Struct", value)
    return value


def _texts(value: Any, path: str) -> Any:
    if not isinstance(value, list):
        raise _wrong(path, "TYPE_STRING", value)
    for index, item in enumerate(value):
        _text(item, f"{path}[{index}]")
    return value


def _text_map(value: Any, path: str) -> Any:
    if not isinstance(value, dict):
        raise _wrong(path, "TYPE_MESSAGE", value)
    for index, item in enumerate(value.values()):
        if not isinstance(item, str):
            raise _wrong(f"{path}[{index}].value", "TYPE_STRING", item)
    return value


def _data(value: Any, path: str) -> Any:
    """String values only; no reserved keys."""
    for index, key in enumerate(_text_map(value, path)):
        if key in ("from", "message_type") or key.startswith(("google.", "gcm.notification.")):
            raise InvalidMessage(f"Invalid data payload key: {key}", f"{path}[{index}].key")
    return value


def _duration(value: Any, path: str) -> Any:
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        kind = "type.googleapis.com/google.protobuf.Duration"
        name = path.rsplit(".", 1)[-1]
        raise InvalidMessage(
            f"Invalid value at '{path}' ({kind}), Field '{name}', Illegal duration format; duration must end with 's'",
            path,
        )
    return int(match[1])


def _ttl(value: Any, path: str) -> Any:
    if _duration(value, path) > MAX_TTL_S:
        raise InvalidMessage("Invalid Android TTL: must be between 0 and 2419200 seconds", path)
    return value


def _timestamp(value: Any, path: str) -> Any:
    if not isinstance(value, str) or not _TIMESTAMP.fullmatch(value):
        raise _wrong(path, "type.googleapis.com/google.protobuf.Timestamp", value)
    return value


def _one_of(kind: str, *names: str) -> Check:
    def check(value: Any, path: str) -> Any:
        if value not in names:
            raise _wrong(path, f"type.googleapis.com/google.firebase.fcm.v1.{kind}", value)
        return value

    return check


def _pattern(pattern: re.Pattern[str]) -> Check:
    def check(value: Any, path: str) -> Any:
        if not pattern.fullmatch(_text(value, path)):
            raise InvalidMessage(f"Invalid value at '{path}': {value[:100]}", path)
        return value

    return check


def _list_of(check: Check) -> Check:
    def check_all(value: Any, path: str) -> Any:
        if not isinstance(value, list):
            raise _wrong(path, "TYPE_MESSAGE", value)
        return [check(item, f"{path}[{index}]") for index, item in enumerate(value)]

    return check_all


def _message(checks: dict[str, Check]) -> Check:
    """An object with these fields and no others; gives it back with snake_case names, nulls left out."""
    aliases = {name: name for name in checks}
    aliases |= {re.sub(r"_([a-z])", lambda match: match[1].upper(), name): name for name in checks}

    def check(value: Any, path: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise _wrong(path, "TYPE_MESSAGE", value)
        clean: dict[str, Any] = {}
        for given, content in value.items():
            name = aliases.get(given)
            if name is None:
                where = f" at '{path}'" if path else ""
                raise InvalidMessage(
                    f'Invalid JSON payload received. Unknown name "{given}"{where}: Cannot find field.', path or given
                )
            if content is None:
                continue
            if name in clean:
                raise InvalidMessage(f"Invalid value at '{path}' (oneof), field '{name}' is already set.", path)
            clean[name] = checks[name](content, f"{path}.{name}" if path else name)
        return clean

    return check


_FCM_OPTIONS = _message({"analytics_label": _pattern(_ANALYTICS_LABEL)})
_NOTIFICATION = _message({"title": _text, "body": _text, "image": _text})
_LIGHT_SETTINGS = _message(
    {
        "color": _message({"red": _number, "green": _number, "blue": _number, "alpha": _number}),
        "light_on_duration": _duration,
        "light_off_duration": _duration,
    }
)
_ANDROID_NOTIFICATION = _message(
    {
        **dict.fromkeys(
            ("title", "body", "icon", "sound", "tag", "click_action", "body_loc_key", "title_loc_key", "channel_id",
             "image", "ticker"), _text,
        ),
        **dict.fromkeys(
            ("sticky", "local_only", "default_sound", "default_vibrate_timings", "default_light_settings",
             "bypass_proxy_notification"), _bool,
        ),
        "id": _int,
        "color": _pattern(_COLOR),
        "body_loc_args": _texts,
        "title_loc_args": _texts,
        "event_time": _timestamp,
        "notification_priority": _one_of(
            "AndroidNotification.NotificationPriority", "PRIORITY_UNSPECIFIED", "PRIORITY_MIN", "PRIORITY_LOW",
            "PRIORITY_DEFAULT", "PRIORITY_HIGH", "PRIORITY_MAX",
        ),
        "vibrate_timings": _list_of(_duration),
        "visibility": _one_of(
            "AndroidNotification.Visibility", "VISIBILITY_UNSPECIFIED", "PRIVATE", "PUBLIC", "SECRET"
        ),
        "notification_count": _int,
        "light_settings": _LIGHT_SETTINGS,
        "proxy": _one_of("AndroidNotification.Proxy", "PROXY_UNSPECIFIED", "ALLOW", "DENY", "IF_PRIORITY_LOWERED"),
    }
)  # fmt: skip
_ANDROID = _message(
    {
        "collapse_key": _text,
        "priority": _one_of("AndroidMessagePriority", "NORMAL", "HIGH", "normal", "high"),
        "ttl": _ttl,
        "restricted_package_name": _text,
        "data": _data,
        "notification": _ANDROID_NOTIFICATION,
        "fcm_options": _FCM_OPTIONS,
        "direct_boot_ok": _bool,
        "bandwidth_constrained_ok": _bool,
        "restricted_satellite_ok": _bool,
    }
)
_MESSAGE = _message(
    {
        "name": _text,
        **dict.fromkeys(TARGETS, _text),
        "data": _data,
        "notification": _NOTIFICATION,
        "android": _ANDROID,
        "android_v2": _message({"background_sync": _struct, "remote_notification": _struct}),
        "apns": _message(
            {
                "headers": _text_map,
                "payload": _struct,
                "live_activity_token": _text,
                "fcm_options": _message({"analytics_label": _pattern(_ANALYTICS_LABEL), "image": _text}),
            }
        ),
        "webpush": _message(
            {
                "headers": _text_map,
                "data": _data,
                "notification": _struct,
                "fcm_options": _message({"link": _text, "analytics_label": _pattern(_ANALYTICS_LABEL)}),
            }
        ),
        "fcm_options": _FCM_OPTIONS,
    }
)
_REQUEST = _message({"validate_only": _bool, "message": _MESSAGE})


def check_request(body: bytes) -> tuple[dict[str, Any], bool]:
    """The message with snake_case names, and whether it is only to be validated. Raises InvalidMessage."""
    try:
        value = orjson.loads(body)
    except ValueError:
        raise InvalidMessage("Invalid JSON payload received. Unexpected token.", "") from None
    request = _REQUEST(value, "")
    message: dict[str, Any] = request.get("message") or {}
    _check_target(message)
    if "android" in message and "android_v2" in message:
        raise InvalidMessage("android and android_v2 cannot be combined.", "message.android_v2")
    limit = MAX_PAYLOAD_BYTES if "token" in message or "fid" in message else MAX_TOPIC_PAYLOAD_BYTES
    if payload_bytes(message) > limit:
        raise InvalidMessage("Android message is too big")
    apns_payload = message.get("apns", {}).get("payload")
    if apns_payload is not None and len(orjson.dumps(apns_payload)) > MAX_PAYLOAD_BYTES:
        raise InvalidMessage("APNs payload is too big")
    return message, bool(request.get("validate_only"))


def payload_bytes(message: dict[str, Any]) -> int:
    """What counts against the limit: keys and values of data and notification, the platform's own before the common."""
    android = message.get("android", {})
    data = {**message.get("data", {}), **android.get("data", {})}
    notification = {**message.get("notification", {}), **android.get("notification", {})}
    size = sum(len(key.encode()) + len(value.encode()) for key, value in data.items())
    for key, value in notification.items():
        size += len(key) + (len(value.encode()) if isinstance(value, str) else len(orjson.dumps(value)))
    return size


def _check_target(message: dict[str, Any]) -> None:
    targets = [name for name in TARGETS if name in message]
    if not targets:
        raise InvalidMessage("Recipient of the message is not set.", "message")
    if len(targets) > 1:
        raise InvalidMessage(
            f"Invalid value at 'message' (oneof), oneof field 'target' is already set. Cannot set '{targets[1]}'",
            f"message.{targets[1]}",
        )
    target = targets[0]
    if target in ("token", "fid") and not _TOKEN.fullmatch(message[target]):
        raise InvalidMessage(INVALID_TOKEN, f"message.{target}", "Invalid registration token")
    if target == "topic" and not _TOPIC.fullmatch(message[target]):
        raise InvalidMessage("Invalid topic name", "message.topic")
