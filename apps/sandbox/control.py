"""The control endpoint: plain HTTP/1.1 and JSON, on loopback. Its routes are listed in README.md.

Errors answer 400 `{"error": "..."}`, unknown routes 404.
"""

from __future__ import annotations

import asyncio
import inspect
import os
from collections.abc import Mapping
from typing import Any, Protocol
from urllib.parse import parse_qs, urlsplit

import orjson

from apps.sandbox.behaviours import Behaviours
from apps.sandbox.exchange import Answer, Connection, Link, Request, Route
from apps.sandbox.gateway_behaviours import TABLES, marked_number
from apps.sandbox.journal import Journal
from apps.sandbox.provider import Settings

_JSON = (b"content-type", b"application/json")
MAX_LIMIT = 20_000
RESETS = ("journal", "behaviours", "settings", "counts")


class Controlled(Protocol):
    """What a control endpoint asks of its provider; `provider.Provider` says what each is."""

    name: str
    connections_total: int
    max_concurrent_streams: int
    goaways: int

    @property
    def settings(self) -> Settings: ...
    @property
    def journal(self) -> Journal: ...
    @property
    def behaviours(self) -> Behaviours: ...
    @property
    def connections(self) -> Mapping[int, Link]: ...

    def register(self, body: Mapping[str, Any]) -> None: ...
    def registered(self) -> list[dict[str, Any]]: ...
    def register_token(self, body: Mapping[str, Any]) -> None: ...
    def restore_settings(self) -> None: ...
    def clear_counts(self) -> None: ...
    def forget(self, what: str) -> bool: ...
    def control_routes(self) -> dict[tuple[str, str], Route]: ...


class Control:
    """The routes of one provider's control endpoint; implements `exchange.Handler`."""

    def __init__(self, provider: Controlled) -> None:
        self._provider = provider
        self._waiting: set[asyncio.Task[None]] = set()
        self._routes: dict[tuple[str, str], Route] = {
            ("GET", "/health"): self._health,
            ("GET", "/stats"): self._stats,
            ("GET", "/settings"): self._settings,
            ("PUT", "/settings"): self._change_settings,
            ("GET", "/behaviours"): self._behaviours,
            ("POST", "/behaviours"): self._add_behaviours,
            ("DELETE", "/behaviours"): self._remove_behaviours,
            ("GET", "/keys"): self._keys,
            ("POST", "/keys"): self._add_keys,
            ("POST", "/tokens"): self._add_tokens,
            ("GET", "/journal"): self._journal,
            ("GET", "/journal/counts"): self._journal_counts,
            ("GET", "/journal/duplicates"): self._journal_duplicates,
            ("POST", "/reset"): self._reset,
            ("POST", "/goaway"): self._goaway,
            ("POST", "/disconnect"): self._disconnect,
            **provider.control_routes(),
        }

    def connected(self, connection: Connection) -> None:
        """Nothing to note."""

    def disconnected(self, connection: Connection) -> None:
        """Nothing to note."""

    def batch_end(self, connection: Connection) -> None:
        """Answers are given at once."""

    def handle(self, connection: Connection, request: Request) -> None:
        url = urlsplit(request.path.decode("latin-1"))
        route = self._routes.get((request.method.decode("latin-1"), url.path))
        status: int = 404
        content: Any = {"error": f"no route {request.method.decode('latin-1')} {url.path}"}
        if route is not None:
            try:
                query = {name: values[-1] for name, values in parse_qs(url.query).items()}
                body = orjson.loads(request.body) if request.body else {}
                status, content = 200, route(query, body)
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                status, content = 400, {"error": str(error)}
        if inspect.isawaitable(content):
            task = asyncio.ensure_future(_answer_later(connection, request.stream_id, content))
            self._waiting.add(task)
            task.add_done_callback(self._waiting.discard)
        else:
            connection.answer(request.stream_id, Answer(status, (_JSON,), orjson.dumps(content)))

    def _health(self, query: dict[str, str], body: Any) -> dict[str, Any]:
        return {"provider": self._provider.name, "pid": os.getpid()}

    def _stats(self, query: dict[str, str], body: Any) -> dict[str, Any]:
        provider, journal = self._provider, self._provider.journal
        return {
            "provider": provider.name,
            "requests": journal.requests,
            "accepted": journal.accepted,
            "outcomes": dict(journal.outcomes),
            "reasons": dict(journal.reasons),
            "duplicates": journal.duplicates,
            "connections": provider.connections_total,
            "open_connections": len(provider.connections),
            "max_concurrent_streams": provider.max_concurrent_streams,
            "goaways": provider.goaways,
            "journal_last_cursor": journal.last_cursor,
        }

    def _settings(self, query: dict[str, str], body: Any) -> dict[str, Any]:
        return self._provider.settings.as_json()

    def _change_settings(self, query: dict[str, str], body: Any) -> dict[str, Any]:
        self._provider.settings.change(body)
        if self._provider.settings.down == "refuse":
            self._disconnect(query, body)
        return self._provider.settings.as_json()

    def _behaviours(self, query: dict[str, str], body: Any) -> dict[str, Any]:
        behaviours = self._provider.behaviours
        return {
            "rules": [rule.as_json() for rule in behaviours.rules()],
            "table": [
                {"name": row.name, "marker": marker_of(self._provider.name, row.name, row.code), "status": row.status}
                for row in behaviours.table.values()
            ],
        }

    def _add_behaviours(self, query: dict[str, str], body: Any) -> dict[str, Any]:
        bodies = body if isinstance(body, list) else [body]
        return {"ids": [self._provider.behaviours.add(item).number for item in bodies]}

    def _remove_behaviours(self, query: dict[str, str], body: Any) -> dict[str, Any]:
        if "id" in query:
            return {"removed": self._provider.behaviours.remove(int(query["id"]))}
        self._provider.behaviours.clear()
        return {"removed": True}

    def _keys(self, query: dict[str, str], body: Any) -> dict[str, Any]:
        return {"keys": self._provider.registered()}

    def _add_keys(self, query: dict[str, str], body: Any) -> dict[str, Any]:
        for item in body if isinstance(body, list) else [body]:
            self._provider.register(item)
        return self._keys(query, body)

    def _add_tokens(self, query: dict[str, str], body: Any) -> dict[str, Any]:
        tokens = body["tokens"]
        for item in tokens:
            self._provider.register_token(item)
        return {"registered": len(tokens)}

    def _journal(self, query: dict[str, str], body: Any) -> dict[str, Any]:
        entries, cursor, lost = self._provider.journal.read(
            since=int(query.get("since", 0)),
            limit=max(1, min(int(query.get("limit", 1000)), MAX_LIMIT)),
            token=query.get("token"),
            outcome=query.get("outcome"),
        )
        with_body = query.get("body", "1") != "0"
        return {"entries": [entry.as_json(with_body=with_body) for entry in entries], "next": cursor, "lost": lost}

    def _journal_counts(self, query: dict[str, str], body: Any) -> dict[str, Any]:
        return {"accepted_by_token": self._provider.journal.counts(at_least=int(query.get("at_least", 1)))}

    def _journal_duplicates(self, query: dict[str, str], body: Any) -> dict[str, Any]:
        return {"duplicates": self._provider.journal.duplicated()}

    def _reset(self, query: dict[str, str], body: Any) -> dict[str, Any]:
        """Without `what`: journal, behaviours, settings and counts; keys, tokens and access tokens only by name."""
        provider = self._provider
        resets = {
            "journal": provider.journal.clear,
            "behaviours": provider.behaviours.clear,
            "settings": provider.restore_settings,
            "counts": provider.clear_counts,
        }
        what = body.get("what") or RESETS
        for name in what:
            if name in resets:
                resets[name]()
            elif not provider.forget(name):
                raise ValueError(f"what: unknown {name}")
        return {"reset": list(what)}

    def _goaway(self, query: dict[str, str], body: Any) -> dict[str, Any]:
        """GOAWAY on all open connections now; their answered and running streams stand."""
        connections = list(self._provider.connections.values())
        reason = str(body.get("reason", "Shutdown"))
        for connection in connections:
            connection.goaway(body.get("last_stream_id", 2**31 - 1), 0, orjson.dumps({"reason": reason}))
            connection.flush()
        self._provider.goaways += len(connections)
        return {"connections": len(connections)}

    def _disconnect(self, query: dict[str, str], body: Any) -> dict[str, Any]:
        """Drop all open connections now, without a closing handshake."""
        connections = list(self._provider.connections.values())
        for connection in connections:
            connection.abort()
        return {"connections": len(connections)}


async def _answer_later(connection: Connection, stream_id: int, content: Any) -> None:
    """Answer once what the route gave is there; errors as `handle` tells them."""
    status = 200
    try:
        content = await content
    except (OSError, ValueError, TypeError, KeyError) as error:
        status, content = 400, {"error": str(error)}
    connection.answer(stream_id, Answer(status, (_JSON,), orjson.dumps(content)))


def marker_of(provider: str, name: str, code: str) -> str:
    """How a device token begins, or what an address holds, that asks for this behaviour."""
    if provider in TABLES:
        return marked_number(provider, name)
    if provider in ("smtp", "esp"):
        return f"…+{name}@…"
    return f"dead{code}" if provider == "apns" else f"sandbox:{name}:"
