"""What passes between a wire protocol (HTTP/2, HTTP/1.1) and a stand-in provider.

The provider side never sees frames, the wire side never sees tokens: a faster HTTP/2 layer can replace
`protocol.py` by giving the same `Connection` and calling the same `Handler`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

MAX_STREAM_ID = 2**31 - 1
Route = Callable[[dict[str, str], Any], Any]
"""A route of the control endpoint: query and JSON body → JSON, or an awaitable of it."""


@dataclass(slots=True)
class Request:
    """One complete request. Header names are lower case; `repeated` tells that a header came more than once."""

    stream_id: int
    method: bytes
    path: bytes
    headers: dict[bytes, bytes]
    repeated: bool
    body: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete answer: status, headers without pseudo headers, body."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...] = ()
    body: bytes = b""


class Link(Protocol):
    """One client connection, as the control endpoint sees it."""

    number: int

    def abort(self) -> None:
        """Drop the connection without a closing handshake."""

    def goaway(self, last_stream_id: int, error_code: int, debug: bytes) -> frozenset[int]:
        """Ask the client to come again on another connection."""

    def flush(self) -> None:
        """Write what is queued."""


class Connection(Link, Protocol):
    """One client connection, as the provider sees it."""

    number: int
    state: Any  # the provider's own notes about this connection

    def answer(self, stream_id: int, answer: Answer) -> None:
        """Queue the answer; a stream that is gone meanwhile is passed over. `flush` sends it."""

    def flush(self) -> None:
        """Write what is queued, in as few TLS records as possible."""

    def reset(self, stream_id: int, error_code: int) -> None:
        """End one stream without an answer (RST_STREAM; over HTTP/1.1 the connection ends)."""

    def abort(self) -> None:
        """Drop the connection without a closing handshake."""

    def goaway(self, last_stream_id: int, error_code: int, debug: bytes) -> frozenset[int]:
        """Send GOAWAY, forget later streams (returned), close once the earlier ones are answered."""

    def set_stream_limit(self, limit: int) -> None:
        """Announce SETTINGS_MAX_CONCURRENT_STREAMS."""

    def open_streams(self) -> int:
        """How many requests have begun and are not yet answered."""


class Handler(Protocol):
    """A provider, as the wire protocol sees it."""

    def connected(self, connection: Connection) -> None:
        """A connection is ready. The handler may set `connection.state` and the stream limit, or abort it."""

    def handle(self, connection: Connection, request: Request) -> None:
        """One request has fully arrived. Must not block."""

    def batch_end(self, connection: Connection) -> None:
        """All requests of one read have been handled; called before the flush."""

    def disconnected(self, connection: Connection) -> None:
        """The connection has ended."""
