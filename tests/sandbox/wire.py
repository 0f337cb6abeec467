"""A small HTTP/2 client on h2 that shows what a comfortable one hides: resets, GOAWAY, SETTINGS, order of answers."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    RemoteSettingsChanged,
    ResponseReceived,
    StreamEnded,
    StreamReset,
)
from h2.settings import SettingCodes

Headers = Iterable[tuple[str, str]]


@dataclass
class Reply:
    """What has come on one stream."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    ended: bool = False
    reset_code: int | None = None

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)


class Wire:
    """One connection. `goaways` holds (last stream id, debug data); `closed` tells that the server has ended it."""

    def __init__(self, url: str, ca_file: Path, *, alpn: tuple[str, ...] = ("h2",)) -> None:
        parts = urlsplit(url)
        self.authority = parts.netloc
        context = ssl.create_default_context(cafile=str(ca_file))
        context.set_alpn_protocols(list(alpn))
        plain = socket.create_connection((parts.hostname or "", parts.port or 443), timeout=5)
        self.socket = context.wrap_socket(plain, server_hostname=parts.hostname)
        # Without outbound checks, so that wrong headers can be sent.
        self.h2 = H2Connection(
            H2Configuration(header_encoding="utf-8", validate_outbound_headers=False, normalize_outbound_headers=False)
        )
        self.replies: dict[int, Reply] = {}
        self.finished: list[int] = []
        self.goaways: list[tuple[int, bytes]] = []
        self.stream_limits: list[int] = []
        self.closed = False
        self.h2.initiate_connection()
        self._write()

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def begin(self, method: str, path: str, headers: Headers, body: bytes = b"") -> int:
        """Queue a request; gives its stream id. `flush` or `wait` sends it."""
        stream_id = self.h2.get_next_available_stream_id()
        pseudo = [(":method", method), (":scheme", "https"), (":authority", self.authority), (":path", path)]
        self.h2.send_headers(stream_id, [*pseudo, *headers], end_stream=not body)
        if body:
            self.h2.send_data(stream_id, body, end_stream=True)
        self.replies[stream_id] = Reply()
        return stream_id

    def flush(self) -> None:
        self._write()

    def wait(self, *stream_ids: int, timeout_s: float = 5.0) -> list[Reply]:
        """Wait till these streams have ended, or the connection, or the time. Gives the replies as they are."""
        self._write()
        deadline = time.monotonic() + timeout_s
        while not self.closed and any(not self.replies[stream_id].ended for stream_id in stream_ids):
            if not self.receive(deadline - time.monotonic()):
                break
        return [self.replies[stream_id] for stream_id in stream_ids]

    def send(self, method: str, path: str, headers: Headers, body: bytes = b"") -> Reply:
        return self.wait(self.begin(method, path, headers, body))[0]

    def receive(self, timeout_s: float) -> bool:
        """Read once; False when the time is over."""
        if timeout_s <= 0:
            return False
        self.socket.settimeout(timeout_s)
        try:
            data = self.socket.recv(65536)
        except TimeoutError:
            return False
        except OSError:
            data = b""
        if not data:
            self.closed = True
            return True
        for event in self.h2.receive_data(data):
            self._on_event(event)
        if not self.goaways:
            self._write()
        return True

    def wait_closed(self, timeout_s: float = 3.0) -> bool:
        """Wait till the server has ended the connection."""
        deadline = time.monotonic() + timeout_s
        while not self.closed and self.receive(deadline - time.monotonic()):
            pass
        return self.closed

    def _on_event(self, event: object) -> None:
        if isinstance(event, ResponseReceived):
            reply = self.replies[event.stream_id or 0]
            reply.headers = {str(name): str(value) for name, value in event.headers or ()}
            reply.status = int(reply.headers[":status"])
        elif isinstance(event, DataReceived):
            self.replies[event.stream_id or 0].body += event.data or b""
        elif isinstance(event, StreamEnded):
            self.replies[event.stream_id or 0].ended = True
            self.finished.append(event.stream_id or 0)
        elif isinstance(event, StreamReset):
            reply = self.replies[event.stream_id or 0]
            reply.ended, reply.reset_code = True, int(event.error_code or 0)
        elif isinstance(event, ConnectionTerminated):
            self.goaways.append((event.last_stream_id or 0, event.additional_data or b""))
            self._survive_goaway()
        elif isinstance(event, RemoteSettingsChanged):
            changed = event.changed_settings.get(SettingCodes.MAX_CONCURRENT_STREAMS)
            if changed is not None:
                self.stream_limits.append(changed.new_value)
                settings = self.h2.remote_settings  # h2 would keep to the limit; breaking it is for the test to choose
                settings[SettingCodes.MAX_CONCURRENT_STREAMS] = 10_000
                settings.acknowledge()

    def _survive_goaway(self) -> None:
        """h2 takes no frame after GOAWAY, though earlier streams may still be answered (RFC 9113 section 6.8)."""
        states = type(self.h2.state_machine.state)
        self.h2.state_machine.state = states.CLIENT_OPEN

    def _write(self) -> None:
        data = self.h2.data_to_send()
        if data:
            try:
                self.socket.sendall(data)
            except OSError:
                self.closed = True
