"""One HTTP/2 connection: frames in and out, its streams, windows and limits (RFC 9113).

It does no waiting: the client calls `read` when the socket has something and `write` when it can take something. What
became of each request's bytes is known, so that a request that cannot have arrived is told from one that may have.
"""

from __future__ import annotations

import contextlib
import enum
import socket
import ssl
import struct
from collections.abc import Callable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from apps.messaging.adapters.http2.headers import (
    HeaderError,
    encode_lines,
    encode_path,
    encode_target,
    read_answer_headers,
)

Tag = TypeVar("Tag")

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 5, 6, 7, 8, 9
END_STREAM, ACK, END_HEADERS, PADDED, PRIORITY = 0x1, 0x1, 0x4, 0x8, 0x20
REFUSED_STREAM, CANCEL = 7, 8

FRAME_BYTES_MAX = 16_384
"""What we announce and the least that every peer takes."""
STREAM_WINDOW_BYTES = 1 << 20
CONNECTION_WINDOW_BYTES = 1 << 24
ANSWER_BYTES_MAX = 1 << 20
"""A provider's answer is a few hundred bytes; more is not one."""
RECORD_BYTES = 16_384
"""A TLS record's worth of frames is written at once: about twenty requests."""
LAST_STREAM_ID = 2**31 - 2**20

_HEAD = struct.Struct(">BHBBI")  # a frame's head: length in 8 + 16 bits, type, flags, stream


class Failure(enum.Enum):
    """Why a request has no answer."""

    NOT_SENT = "not_sent"
    """The whole request never left, or the peer said that it did not look at it: it cannot have arrived."""
    UNKNOWN = "unknown"
    """It was written, and the answer never came: it may have arrived."""


class Request(NamedTuple, Generic[Tag]):
    """One POST. `tag` is the caller's; the whole request comes back with the answer."""

    tag: Tag
    origin: str
    """`https://host:port`."""
    path: bytes
    headers: Sequence[bytes]
    """`name: value` lines, names in lower case. The same object given again is encoded once."""
    body: bytes
    fresh: bool = False
    """Send it on a new connection."""
    more_headers: bytes = b""
    """Those of this request alone, as `encode_lines` gives them."""


class Answer(NamedTuple, Generic[Tag]):
    """What came of one request: a status, or 0 and a failure."""

    request: Request[Tag]
    status: int
    retry_after_s: float | None
    """The Retry-After header in seconds; None without one, or with status 200."""
    body: bytes
    failure: Failure | None = None
    reason: str = ""
    """Why there is no answer: `operation_timedout`, `couldnt_resolve_host`, `connection_lost` …"""


class ConnectionEnded(Exception):
    """The connection is of no more use. `reason` as in `Answer`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Stream:
    """One request on its way."""

    __slots__ = (
        "body",
        "chunks",
        "deadline",
        "left_at",
        "request",
        "retry_after_s",
        "status",
        "tries",
        "wants_new_connection",
        "window",
    )

    def __init__(self, request: Request[Any], deadline: float) -> None:
        self.request = request
        self.deadline = deadline
        """When it is given up, in `time.monotonic` seconds."""
        self.tries = 0
        self.wants_new_connection = request.fresh
        self.status = 0

    def begin(self, window: int) -> None:
        """On a connection, where it has not been yet or was not looked at."""
        self.body = b""
        """What of the body could not be queued yet."""
        self.window = window
        self.left_at = -1
        """How many bytes of the connection are written when the whole request is; -1 while a part is not queued."""
        self.status = 0
        self.retry_after_s: float | None = None
        self.chunks: list[bytes] = []

    def answer(self) -> Answer[Any]:
        retry_after_s = None if self.status == 200 else self.retry_after_s
        return Answer(self.request, self.status, retry_after_s, b"".join(self.chunks))

    def failed(self, failure: Failure, reason: str) -> Answer[Any]:
        if self.status == 200:  # accepted, though the end of the answer is missing
            return Answer(self.request, 200, None, b"".join(self.chunks))
        return Answer(self.request, 0, None, b"", failure, reason)


class Connection:
    """An open connection, after its TLS handshake."""

    def __init__(self, sock: ssl.SSLSocket, authority: bytes, *, streams: int, now: float) -> None:
        self.sock = sock
        self.streams: dict[int, Stream] = {}
        """What is in flight, oldest first."""
        self.heard_at = now
        """When anything came last, in `time.monotonic` seconds."""
        self.is_ending = False
        """Whether no new streams are to be opened: the peer said GOAWAY, or another connection is wanted."""
        self.room = 0
        """How many more requests may be put on now."""
        self.answers: list[Answer[Any]] = []
        self.refused: list[Stream] = []
        """What the peer says it has not looked at: it may be sent again."""
        self._streams_max = streams
        self._peer_limit = 0  # nothing is sent until the peer has told its limit in its first frame
        self._first_window = 65_535
        self._window = 65_535
        self._taken = 0
        self._next_id = 1
        self._blocked: dict[int, Stream] = {}
        self._in = b""
        self._header_block: tuple[int, int, bytes] | None = None
        self._target = encode_target(authority)
        self._lines: tuple[Sequence[bytes], bytes] = ((), b"")
        self._out = bytearray()
        self._queued = 0
        self._written = 0
        settings = struct.pack(">HIHIHI", 1, 0, 2, 0, 4, STREAM_WINDOW_BYTES)  # no table, no push, window
        self._queue(PREFACE)
        self._queue(frame(SETTINGS, 0, 0, settings))
        self._queue(frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", CONNECTION_WINDOW_BYTES - 65_535)))

    # --- Requests -----------------------------------------------------------------------------------------------

    def _count_room(self) -> None:
        is_over = self.is_ending or self._next_id >= LAST_STREAM_ID
        self.room = 0 if is_over else min(self._streams_max, self._peer_limit) - len(self.streams)

    def end(self) -> None:
        """Open no new streams; what is in flight is still answered."""
        self.is_ending = True
        self.room = 0

    @property
    def is_ready(self) -> bool:
        """Whether the peer has told its limits."""
        return self._peer_limit > 0 or self.is_ending

    def start(self, stream: Stream) -> None:
        """Put a request on; there must be `room`."""
        request = stream.request
        stream_id, self._next_id = self._next_id, self._next_id + 2
        self.streams[stream_id] = stream
        self.room -= 1
        stream.begin(self._first_window)
        _, _, path, headers, body, _, more_headers = request
        block = b"%b%b%b%b" % (self._target, encode_path(path), self._encoded(headers), more_headers)
        size = len(body)
        if (
            size <= self._window
            and size <= self._first_window
            and size <= FRAME_BYTES_MAX
            and len(block) <= FRAME_BYTES_MAX
        ):
            self._window -= size
            stream.window -= size
            length = len(block)
            self._out += b"%b%b%b%b" % (
                _HEAD.pack(length >> 16, length & 0xFFFF, HEADERS, END_HEADERS, stream_id),
                block,
                _HEAD.pack(size >> 16, size & 0xFFFF, DATA, END_STREAM, stream_id),
                body,
            )
            self._queued += 18 + length + size
            stream.left_at = self._queued
        else:
            self._queue_block(stream_id, block)
            stream.body = body
            self._blocked[stream_id] = stream
            self._push_blocked()

    def _encoded(self, headers: Sequence[bytes]) -> bytes:
        if headers is not self._lines[0]:
            self._lines = (headers, encode_lines(headers))
        return self._lines[1]

    def _queue_block(self, stream_id: int, block: bytes) -> None:
        """A header block that may need more than one frame."""
        first, rest = block[:FRAME_BYTES_MAX], block[FRAME_BYTES_MAX:]
        self._queue(frame(HEADERS, 0 if rest else END_HEADERS, stream_id, first))
        while rest:
            part, rest = rest[:FRAME_BYTES_MAX], rest[FRAME_BYTES_MAX:]
            self._queue(frame(CONTINUATION, 0 if rest else END_HEADERS, stream_id, part))

    def _push_blocked(self) -> None:
        """Queue what the windows allow of the bodies that did not fit."""
        for stream_id, stream in list(self._blocked.items()):
            while stream.body:
                size = min(len(stream.body), stream.window, self._window, FRAME_BYTES_MAX)
                if size <= 0:
                    break
                part, stream.body = stream.body[:size], stream.body[size:]
                stream.window -= size
                self._window -= size
                self._queue(frame(DATA, 0 if stream.body else END_STREAM, stream_id, part))
            if not stream.body:
                stream.left_at = self._queued
                del self._blocked[stream_id]

    def give_up(self, stream_id: int) -> Stream:
        """End a request that was waited for too long."""
        stream = self.streams.pop(stream_id)
        self._blocked.pop(stream_id, None)
        self._queue(frame(RST_STREAM, 0, stream_id, struct.pack(">I", CANCEL)))
        self._count_room()
        return stream

    def may_have_arrived(self, stream: Stream) -> bool:
        """Whether the whole request was handed to the network."""
        return 0 <= stream.left_at <= self._written

    # --- The socket ---------------------------------------------------------------------------------------------

    @property
    def wants_to_write(self) -> bool:
        return bool(self._out)

    def _queue(self, data: bytes) -> None:
        self._out += data
        self._queued += len(data)

    def write(self) -> None:
        """Write what the socket takes now. Raises `ConnectionEnded`."""
        try:
            with memoryview(self._out) as out:
                taken = 0
                while taken < len(out):
                    taken += self.sock.send(out[taken : taken + RECORD_BYTES])
        except (ssl.SSLWantWriteError, ssl.SSLWantReadError, BlockingIOError):
            pass
        except OSError:
            self._written += taken
            raise ConnectionEnded("send_error") from None
        self._written += taken
        del self._out[:taken]

    def read(self, now: float) -> None:
        """Read what has come; answers and refusals are in `answers` and `refused`. Raises `ConnectionEnded`."""
        while True:
            try:
                data = self.sock.recv(65_536)
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError, BlockingIOError):
                return
            except OSError:
                raise ConnectionEnded("recv_error") from None
            if not data:
                raise ConnectionEnded("connection_lost")
            self.heard_at = now
            self._take(data)

    def close(self, *, quietly: bool = False) -> None:
        """Close the socket. `quietly` says nothing to the peer: in a child process it is the parent's connection."""
        with contextlib.suppress(OSError):
            if quietly:
                socket.socket(fileno=self.sock.detach()).close()
            else:
                self.sock.close()

    # --- Frames in ----------------------------------------------------------------------------------------------

    def _take(self, data: bytes) -> None:
        data = self._in + data
        at, end = 0, len(data)
        streams, answers = self.streams, self.answers
        while at + 9 <= end:
            high, low, kind, flags, stream_id = _HEAD.unpack_from(data, at)
            length = high << 16 | low
            if length > FRAME_BYTES_MAX:
                raise ConnectionEnded("frame_too_large")
            if at + 9 + length > end:
                break
            payload = data[at + 9 : at + 9 + length]
            at += 9 + length
            if kind == HEADERS and flags & END_HEADERS and not flags & (PADDED | PRIORITY):
                self._headers(stream_id, flags, payload)
            elif kind == DATA:
                self._data(stream_id, flags, payload)
            else:
                self._other(kind, flags, stream_id, payload)
            if flags & END_STREAM and kind in (HEADERS, DATA) and self._header_block is None:
                stream = streams.pop(stream_id, None)
                if stream is not None:
                    answers.append(stream.answer())
        self._in = data[at:]
        self._count_room()

    def _headers(self, stream_id: int, flags: int, block: bytes) -> None:
        try:
            status, retry_after_s = read_answer_headers(block)
        except (HeaderError, ValueError):
            raise ConnectionEnded("compression_error") from None
        stream = self.streams.get(stream_id)
        if stream is not None and status >= 200:
            stream.status, stream.retry_after_s = status, retry_after_s

    def _data(self, stream_id: int, flags: int, payload: bytes) -> None:
        self._taken += len(payload)
        if self._taken > CONNECTION_WINDOW_BYTES // 2:
            self._queue(frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", self._taken)))
            self._taken = 0
        stream = self.streams.get(stream_id)
        if stream is not None:
            stream.chunks.append(unpadded(payload) if flags & PADDED else payload)
            if len(stream.chunks) > 1 and sum(map(len, stream.chunks)) > ANSWER_BYTES_MAX:
                raise ConnectionEnded("answer_too_large")

    def _other(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        handler = _HANDLERS.get(kind)
        if handler is not None:  # a kind of frame that we do not know is ignored (section 4.1)
            try:
                handler(self, flags, stream_id, payload)
            except (struct.error, IndexError):
                raise ConnectionEnded("malformed_frame") from None

    def _on_split_headers(self, flags: int, stream_id: int, payload: bytes) -> None:
        """HEADERS with padding or priority, or without their end."""
        if flags & PADDED:
            payload = unpadded(payload)
        if flags & PRIORITY:
            payload = payload[5:]
        if flags & END_HEADERS:
            self._headers(stream_id, flags, payload)
        else:
            self._header_block = (stream_id, flags, payload)

    def _on_continuation(self, flags: int, stream_id: int, payload: bytes) -> None:
        if self._header_block is None or self._header_block[0] != stream_id:
            raise ConnectionEnded("malformed_frame")
        _, first_flags, block = self._header_block
        if len(block) > 4 * FRAME_BYTES_MAX:
            raise ConnectionEnded("answer_too_large")
        self._header_block = (stream_id, first_flags, block + payload)
        if flags & END_HEADERS:
            self._header_block = None
            self._headers(stream_id, first_flags, block + payload)
            if first_flags & END_STREAM and (stream := self.streams.pop(stream_id, None)):
                self.answers.append(stream.answer())

    def _on_reset(self, flags: int, stream_id: int, payload: bytes) -> None:
        (code,) = struct.unpack(">I", payload)
        stream = self.streams.pop(stream_id, None)
        self._blocked.pop(stream_id, None)
        if stream is None:
            return
        if code == REFUSED_STREAM:
            self.refused.append(stream)
        else:
            self.answers.append(stream.failed(Failure.UNKNOWN, f"stream_reset_{code}"))

    def _on_settings(self, flags: int, stream_id: int, payload: bytes) -> None:
        if flags & ACK:
            return
        told = dict(struct.iter_unpack(">HI", payload))
        self._peer_limit = told.get(3, self._peer_limit or self._streams_max)
        if 4 in told:
            for stream in self.streams.values():
                stream.window += told[4] - self._first_window
            self._first_window = told[4]
        self._queue(frame(SETTINGS, ACK, 0, b""))
        self._push_blocked()

    def _on_ping(self, flags: int, stream_id: int, payload: bytes) -> None:
        if not flags & ACK:
            self._queue(frame(PING, ACK, 0, payload))

    def _on_goaway(self, flags: int, stream_id: int, payload: bytes) -> None:
        """No new streams; those above the last one were not looked at (section 6.8), the others are still answered."""
        last, _code = struct.unpack_from(">II", payload)
        self.end()
        for above in [key for key in self.streams if key > last & 0x7FFF_FFFF]:
            self.refused.append(self.streams.pop(above))
            self._blocked.pop(above, None)

    def _on_window(self, flags: int, stream_id: int, payload: bytes) -> None:
        (more,) = struct.unpack(">I", payload)
        if stream_id == 0:
            self._window += more
        elif stream := self.streams.get(stream_id):
            stream.window += more
        if self._blocked:
            self._push_blocked()

    def _on_push(self, flags: int, stream_id: int, payload: bytes) -> None:
        raise ConnectionEnded("push_was_switched_off")


Handler = Callable[[Connection, int, int, bytes], None]
_HANDLERS: dict[int, Handler] = {
    HEADERS: Connection._on_split_headers,
    RST_STREAM: Connection._on_reset,
    SETTINGS: Connection._on_settings,
    PUSH_PROMISE: Connection._on_push,
    PING: Connection._on_ping,
    GOAWAY: Connection._on_goaway,
    WINDOW_UPDATE: Connection._on_window,
    CONTINUATION: Connection._on_continuation,
}


def frame(kind: int, flags: int, stream_id: int, payload: bytes) -> bytes:
    return _HEAD.pack(len(payload) >> 16, len(payload) & 0xFFFF, kind, flags, stream_id) + payload


def unpadded(payload: bytes) -> bytes:
    return payload[1 : len(payload) - payload[0]]
