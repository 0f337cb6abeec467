"""HTTP/2 on asyncio by the h2 library: frames in, `Request`s out; `Answer`s in, frames out (RFC 9113).

Everything h2 lives in this file. One read of the socket is answered with one write, as a TLS record per answer would
add to the cost of h2 itself, which is the limit of these processes (measured: README.md).
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import logging
import struct
from collections.abc import Callable, Iterable
from typing import Any

import hpack.hpack
import hpack.table
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    RequestReceived,
    StreamEnded,
    StreamReset,
    WindowUpdated,
)
from h2.exceptions import H2Error
from h2.settings import SettingCodes, Settings
from h2.stream import StreamClosedBy
from hpack import Encoder
from hpack.huffman_table import decode_huffman
from hyperframe.frame import GoAwayFrame

from apps.sandbox.exchange import MAX_STREAM_ID, Answer, Handler, Request

MAX_BODY_BYTES = 512 * 1024  # far above both providers' limits, so that "too large" is the provider's answer
MAX_HEADER_LIST_BYTES = 16 * 1024
_STREAM_WINDOW_BYTES = 2 * MAX_BODY_BYTES
_CONNECTION_WINDOW_BYTES = 2**30
_GRACEFUL_S = 0.1

_FRAME_HEAD = struct.Struct(">BHBBL")  # length in 3 bytes, type, flags, stream

connection_numbers = itertools.count(1)

# Decoding Huffman text is the dearest step of a request (up to 60 µs), and the provider token, the longest text, is the
# same every time: clients send it as a literal that is never indexed.
hpack.hpack.decode_huffman = functools.lru_cache(maxsize=1024)(decode_huffman)  # type: ignore[attr-defined,assignment]


class _SilentLog:
    """hpack logs every header at debug level: 30 calls per request."""

    def debug(self, *_: object) -> None:
        """Nothing."""


if not logging.getLogger("hpack").isEnabledFor(logging.DEBUG):
    hpack.hpack.log = hpack.table.log = _SilentLog()  # type: ignore[assignment]


class _PlainEncoder(Encoder):
    """Answers without Huffman coding: a few bytes more, a third of the time."""

    def encode(self, headers: Iterable[Any], huffman: bool = False) -> bytes:
        return super().encode(headers, huffman=False)


class _ServerConnection(H2Connection):
    """h2 without its walk over all streams at every HEADERS frame (the limit is kept by `Http2Connection`)."""

    @property
    def open_inbound_streams(self) -> int:
        return 0

    def forget(self, stream_id: int) -> None:
        """Drop a stream that has ended, as h2's walk would have done."""
        stream = self.streams.get(stream_id)
        if stream is not None and stream.closed:
            del self.streams[stream_id]
            self._closed_streams[stream_id] = stream.closed_by

    def end_with_200(self, stream_id: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Send status 200 without a body, a fifth of what a request costs through h2's `send_headers`.

        One HEADERS frame (RFC 9113 section 6.2) of literals that touch no compression state (RFC 7541 section 6.2.2).
        """
        block = b"\x88" + b"".join(b"\x00%c%b%c%b" % (len(name), name, len(value), value) for name, value in headers)
        self._data_to_send += _FRAME_HEAD.pack(len(block) >> 16, len(block) & 0xFFFF, 0x1, 0x5, stream_id) + block
        del self.streams[stream_id]
        self._closed_streams[stream_id] = StreamClosedBy.SEND_END_STREAM


class _Incoming:
    """A request whose body is still arriving, or whose answer is still due."""

    __slots__ = ("body", "headers")

    def __init__(self, headers: list[tuple[bytes, bytes]]) -> None:
        self.headers = headers
        self.body = b""


class Http2Connection(asyncio.Protocol):
    """One client connection over HTTP/2; implements `exchange.Connection`.

    Streams above the announced limit are refused with REFUSED_STREAM (RFC 9113 section 5.1.2). Without `h2` in
    ALPN the connection goes to `http1`, or is dropped when that is None, as APNs does.
    """

    def __init__(self, handler: Handler, http1: Callable[[], asyncio.Protocol] | None = None) -> None:
        self.number = next(connection_numbers)
        self.state: Any = None
        self._handler = handler
        self._http1 = http1
        self._delegate: asyncio.Protocol | None = None
        self._transport: asyncio.Transport | None = None
        self._limit = 1000
        self._open: dict[int, _Incoming] = {}
        self._blocked: list[tuple[int, bytes]] = []
        self._last_stream_id: int | None = None  # set once GOAWAY is sent
        self._highest_stream_id = 0
        self._received_bytes = 0
        self._ended = False
        self._answered = 0  # since the last flush: the client still holds these streams open
        self._h2 = _ServerConnection(
            H2Configuration(
                client_side=False,
                header_encoding=None,
                validate_inbound_headers=False,  # a fifth of the time; the provider looks at what it needs
                validate_outbound_headers=False,
                normalize_outbound_headers=False,
            )
        )
        self._h2.encoder = _PlainEncoder()

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        tls = transport.get_extra_info("ssl_object")
        if tls is not None and tls.selected_alpn_protocol() != "h2":
            if self._http1 is None:
                self._ended = True
                transport.abort()
                return
            self._delegate = self._http1()
            transport.set_protocol(self._delegate)
            self._delegate.connection_made(transport)
            return
        self._handler.connected(self)
        if self._ended:
            return
        self._h2.local_settings = Settings(
            client=False,
            initial_values={
                SettingCodes.MAX_CONCURRENT_STREAMS: self._limit,
                SettingCodes.INITIAL_WINDOW_SIZE: _STREAM_WINDOW_BYTES,
                SettingCodes.MAX_HEADER_LIST_SIZE: MAX_HEADER_LIST_BYTES,
            },
        )
        self._h2.initiate_connection()
        self._h2.decoder.max_header_list_size = MAX_HEADER_LIST_BYTES
        self._h2.increment_flow_control_window(_CONNECTION_WINDOW_BYTES)
        self.flush()

    def data_received(self, data: bytes) -> None:
        if self._ended:
            return
        try:
            events = self._h2.receive_data(data)
        except H2Error:
            self._close()
            return
        for event in events:
            self._on_event(event)
            if self._ended:
                return
        self._handler.batch_end(self)
        if self._received_bytes > _CONNECTION_WINDOW_BYTES // 4:
            self._h2.increment_flow_control_window(self._received_bytes)
            self._received_bytes = 0
        self.flush()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, error: Exception | None) -> None:
        if self._delegate is not None:
            return
        self._ended = True
        self._open.clear()
        self._handler.disconnected(self)

    # the provider's side

    def answer(self, stream_id: int, answer: Answer) -> None:
        if self._open.pop(stream_id, None) is None or self._ended:
            return
        self._answered += 1
        body = answer.body
        if answer.status == 200 and not body and all(len(value) < 127 for _, value in answer.headers):
            self._h2.end_with_200(stream_id, answer.headers)
            return
        headers = [(b":status", str(answer.status).encode()), *answer.headers]
        self._h2.send_headers(stream_id, headers, end_stream=not body)
        if body:
            self._send_body(stream_id, body)
        self._h2.forget(stream_id)

    def flush(self) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        self._answered = 0
        data = self._h2.data_to_send()
        if data:
            self._transport.write(data)
        if self._last_stream_id is not None and not self._open and not self._blocked:
            self._close()

    def reset(self, stream_id: int, error_code: int) -> None:
        if self._open.pop(stream_id, None) is not None and not self._ended:
            self._h2.reset_stream(stream_id, error_code)
            self._h2.forget(stream_id)

    def abort(self) -> None:
        self._ended = True
        self._open.clear()
        if self._transport is not None:
            self._transport.abort()

    def goaway(self, last_stream_id: int, error_code: int, debug: bytes) -> frozenset[int]:
        assert self._transport is not None
        frame = GoAwayFrame(0, last_stream_id=last_stream_id, error_code=error_code, additional_data=debug)
        # Past h2: its close_connection() would not let the remaining streams be answered.
        self._transport.write(self._h2.data_to_send() + frame.serialize())
        if last_stream_id == MAX_STREAM_ID:  # a graceful end: a first notice, then the true last stream
            asyncio.get_running_loop().call_later(_GRACEFUL_S, self._finish_graceful, error_code, debug)
            return frozenset()
        self._last_stream_id = last_stream_id
        forgotten = frozenset(stream_id for stream_id in self._open if stream_id > last_stream_id)
        for stream_id in forgotten:
            del self._open[stream_id]
        return forgotten

    def set_stream_limit(self, limit: int) -> None:
        if limit != self._limit and self._h2.state_machine.state.name != "IDLE":
            self._h2.update_settings({SettingCodes.MAX_CONCURRENT_STREAMS: limit})
        self._limit = limit

    def open_streams(self) -> int:
        return len(self._open) + self._answered

    # inside

    def _on_event(self, event: Event) -> None:
        kind = type(event)
        if kind is RequestReceived:
            assert isinstance(event, RequestReceived)
            assert event.stream_id is not None
            self._begin(event.stream_id, event.headers)  # bytes, as header_encoding is None
        elif kind is DataReceived:
            assert isinstance(event, DataReceived)
            assert event.stream_id is not None
            self._received_bytes += event.flow_controlled_length or 0
            incoming = self._open.get(event.stream_id)
            if incoming is not None and event.data is not None:
                incoming.body += event.data
                if len(incoming.body) > MAX_BODY_BYTES:
                    self.reset(event.stream_id, ErrorCodes.ENHANCE_YOUR_CALM)
        elif kind is StreamEnded:
            assert isinstance(event, StreamEnded)
            assert event.stream_id is not None
            self._complete(event.stream_id)
        elif kind is StreamReset:
            assert isinstance(event, StreamReset)
            assert event.stream_id is not None
            self._open.pop(event.stream_id, None)
            self._h2.forget(event.stream_id)
        elif kind is WindowUpdated:
            if self._blocked:
                blocked, self._blocked = self._blocked, []
                for stream_id, body in blocked:
                    self._send_body(stream_id, body)
                    self._h2.forget(stream_id)
        elif kind is ConnectionTerminated:
            self._close()

    def _begin(self, stream_id: int, headers: list[tuple[bytes, bytes]]) -> None:
        if self._last_stream_id is not None and stream_id > self._last_stream_id:
            return  # sent before the client saw our GOAWAY: it knows that this stream was not processed
        self._open[stream_id] = _Incoming(headers)
        self._highest_stream_id = stream_id
        if len(self._open) > self._limit:
            self.reset(stream_id, ErrorCodes.REFUSED_STREAM)

    def _complete(self, stream_id: int) -> None:
        incoming = self._open.get(stream_id)
        if incoming is None:
            return
        headers = dict(incoming.headers)
        self._handler.handle(
            self,
            Request(
                stream_id,
                headers.get(b":method", b""),
                headers.get(b":path", b""),
                headers,
                len(headers) != len(incoming.headers),
                incoming.body,
            ),
        )

    def _send_body(self, stream_id: int, body: bytes) -> None:
        if stream_id not in self._h2.streams:
            return
        room = min(self._h2.local_flow_control_window(stream_id), self._h2.max_outbound_frame_size)
        if len(body) <= room:
            self._h2.send_data(stream_id, body, end_stream=True)
        else:
            self._blocked.append((stream_id, body))

    def _finish_graceful(self, error_code: int, debug: bytes) -> None:
        if not self._ended:
            self.goaway(self._highest_stream_id, error_code, debug)
            self.flush()

    def _close(self) -> None:
        self._ended = True
        self._open.clear()
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(self._h2.data_to_send())
            self._transport.close()
