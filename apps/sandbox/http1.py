"""HTTP/1.1 on asyncio, as much as is needed: FCM answers it beside HTTP/2, and the control endpoint speaks it.

One request at a time per connection (no pipelining), Content-Length or chunked bodies, keep-alive.
"""

from __future__ import annotations

import asyncio
from typing import Any

from apps.sandbox.exchange import Answer, Handler, Request
from apps.sandbox.protocol import MAX_HEADER_LIST_BYTES, connection_numbers

MAX_BODY_BYTES = 64 * 1024 * 1024  # the control endpoint takes long lists of tokens
_REASONS = {
    200: b"OK", 201: b"Created", 400: b"Bad Request", 401: b"Unauthorized", 402: b"Payment Required",
    403: b"Forbidden", 404: b"Not Found", 405: b"Method Not Allowed", 413: b"Content Too Large",
    429: b"Too Many Requests", 500: b"Internal Server Error", 502: b"Bad Gateway", 503: b"Service Unavailable",
}  # fmt: skip


class Http1Connection(asyncio.Protocol):
    """One client connection over HTTP/1.1; implements `exchange.Connection` with stream ids counted from 1."""

    def __init__(self, handler: Handler) -> None:
        self.number = next(connection_numbers)
        self.state: Any = None
        self._handler = handler
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._stream_id = 0
        self._busy = False
        self._keep_alive = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._handler.connected(self)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._next_request()

    def connection_lost(self, error: Exception | None) -> None:
        self._handler.disconnected(self)

    def answer(self, stream_id: int, answer: Answer) -> None:
        if not self._busy or stream_id != self._stream_id or self._transport is None:
            return
        self._busy = False
        lines = [b"HTTP/1.1 %d %s" % (answer.status, _REASONS.get(answer.status, b"Status"))]
        lines += [b"%s: %s" % header for header in answer.headers]
        lines.append(b"content-length: %d" % len(answer.body))
        if not self._keep_alive:
            lines.append(b"connection: close")
        self._transport.write(b"\r\n".join(lines) + b"\r\n\r\n" + answer.body)
        if not self._keep_alive:
            self._transport.close()
        elif self._buffer:
            asyncio.get_running_loop().call_soon(self._next_request)

    def flush(self) -> None:
        """Nothing is queued: `answer` writes at once."""

    def reset(self, stream_id: int, error_code: int) -> None:
        self.abort()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def goaway(self, last_stream_id: int, error_code: int, debug: bytes) -> frozenset[int]:
        self._keep_alive = False
        if self._busy and self._stream_id > last_stream_id:
            self.abort()
            return frozenset((self._stream_id,))
        return frozenset()

    def set_stream_limit(self, limit: int) -> None:
        """HTTP/1.1 has one request at a time anyway."""

    def open_streams(self) -> int:
        return int(self._busy)

    def _next_request(self) -> None:
        if self._busy or self._transport is None or self._transport.is_closing():
            return
        head_end = self._buffer.find(b"\r\n\r\n")
        if head_end < 0:
            if len(self._buffer) > MAX_HEADER_LIST_BYTES:
                self._refuse(400)
            return
        lines = bytes(self._buffer[:head_end]).split(b"\r\n")
        try:
            method, path, version = lines[0].split(b" ")
            pairs = [
                (name.strip().lower(), value.strip()) for name, _, value in (ln.partition(b":") for ln in lines[1:])
            ]
        except ValueError:
            self._refuse(400)
            return
        headers = dict(pairs)
        body_start = head_end + 4
        if b"chunked" in headers.get(b"transfer-encoding", b"").lower():
            parsed = _read_chunks(self._buffer, body_start)
        else:
            length_text = headers.get(b"content-length", b"0")
            if not length_text.isdigit() or int(length_text) > MAX_BODY_BYTES:
                self._refuse(413 if length_text.isdigit() else 400)
                return
            end = body_start + int(length_text)
            parsed = (bytes(self._buffer[body_start:end]), end) if len(self._buffer) >= end else None
        if parsed is None:
            if headers.get(b"expect", b"").lower() == b"100-continue" and len(self._buffer) == body_start:
                self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            return
        body, end = parsed
        del self._buffer[:end]
        self._busy = True
        self._stream_id += 1
        self._keep_alive = version == b"HTTP/1.1" and headers.get(b"connection", b"").lower() != b"close"
        request = Request(self._stream_id, method, path, headers, len(headers) != len(pairs), body)
        self._handler.handle(self, request)
        self._handler.batch_end(self)

    def _refuse(self, status: int) -> None:
        assert self._transport is not None
        self._transport.write(b"HTTP/1.1 %d %s\r\ncontent-length: 0\r\n\r\n" % (status, _REASONS[status]))
        self._transport.close()


def _read_chunks(buffer: bytearray, start: int) -> tuple[bytes, int] | None:
    """The chunked body that begins at `start` and where it ends; None while it is incomplete."""
    body = b""
    while True:
        line_end = buffer.find(b"\r\n", start)
        if line_end < 0:
            return None
        try:
            size = int(bytes(buffer[start:line_end]).split(b";")[0], 16)
        except ValueError:
            return body, len(buffer)
        chunk_end = line_end + 2 + size
        if len(buffer) < chunk_end + 2:
            return None
        if size == 0:
            return body, chunk_end + 2
        body += buffer[line_end + 2 : chunk_end]
        start = chunk_end + 2
