"""An in-app message as devices get it: as an object of the API, and as an event of a stream (server-sent events).

    id: 1767226000000                    milliseconds when it arrived; `Last-Event-ID` when the client comes back
    event: message
    data: {"id": …, "title": …, "layout": "modal", …}

What is published for a stream is a line of display rules, empty for most, and the event's own bytes, which the process
that holds the connection passes on as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

import orjson

from apps.messaging.adapters.in_app_content import is_for_device, shown_options

EMPTY_STATE: dict[str, Any] = {"read_at": None, "archived_at": None, "shown_count": 0, "last_shown_at": None}
RULES = ("app_version", "languages")
"""Options that are asked for each device; the other rules are the SDK's to ask."""
_MESSAGE = b"event: message\n"
_QUIET = b"event: inbox\n"
"""The same for a device that is not to display it: it lies in the inbox."""


class Words(NamedTuple):
    """What a message says."""

    title: str
    body: str
    data: Mapping[str, Any]
    options: Mapping[str, Any]


def message_object(
    words: Words, *, arrived_at: datetime, expires_at: datetime, state: Mapping[str, Any] = EMPTY_STATE
) -> dict[str, Any]:
    """All of it but the id. Every option is there, those that were not given with their default."""
    return {
        "title": words.title,
        "body": words.body,
        "data": words.data,
        **shown_options(words.options),
        "arrived_at": arrived_at,
        "expires_at": expires_at,
        **state,
    }


class Frame(NamedTuple):
    """A published event around the id of its message: head, id, tail."""

    head: bytes
    tail: bytes

    def around(self, message_id: str) -> bytes:
        return self.head + message_id.encode() + self.tail


def message_frame(words: Words, **times: Any) -> Frame:
    """The event that says that a message came; `times` and state as in `message_object`."""
    rules = {name: words.options[name] for name in RULES if words.options.get(name)}
    body = orjson.dumps(message_object(words, **times), default=str, option=orjson.OPT_UTC_Z)
    number = int(times["arrived_at"].timestamp() * 1_000)
    head = b'%sid: %d\n%sdata: {"id":"' % (orjson.dumps(rules) + b"\n" if rules else b"\n", number, _MESSAGE)
    return Frame(head, b'",' + body[1:] + b"\n\n")


def event(name: str, data: Mapping[str, Any]) -> bytes:
    """Any other event, which is not resumed from."""
    return b"event: %s\ndata: %s\n\n" % (name.encode(), orjson.dumps(data, default=str, option=orjson.OPT_UTC_Z))


def without_rules(frame: bytes) -> bytes:
    """A published form of an event that has no rules."""
    return b"\n" + frame


def for_device(published: bytes, *, app_version: str, language: str) -> bytes:
    """The event as this device gets it."""
    rules, _, frame = published.partition(b"\n")
    if not rules or is_for_device(orjson.loads(rules), app_version=app_version, language=language):
        return frame
    return frame.replace(_MESSAGE, _QUIET, 1)
