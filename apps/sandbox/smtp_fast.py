"""The relay for benchmarks: takes what it is told, answers pipelined commands in one write, and only counts.

Recipients' behaviours and credentials are heeded; messages are not looked at and not kept.
"""

from __future__ import annotations

import asyncio
import binascii
from base64 import b64decode
from collections.abc import Callable

from apps.sandbox.behaviours import Action
from apps.sandbox.smtp import HOSTNAME, Relay

_END = b"\r\n.\r\n"
_READY = f"220 {HOSTNAME} ESMTP sandbox\r\n".encode()


class FastConnection(asyncio.Protocol):
    """One client connection, for benchmarks."""

    def __init__(self, relay: Relay, *, is_tls: bool) -> None:
        self.number = next(relay.numbers)
        self._relay = relay
        self._transport: asyncio.Transport | None = None
        self._is_tls = is_tls
        self._buffer = bytearray()
        self._searched = 0
        self._in_message = False
        self._recipients = 0
        self._login: Callable[[bytes], bytes] | None = None
        self._username = b""
        self._starting_tls: asyncio.Task[None] | None = None
        self._is_upgrading = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._relay.entered(self)
        transport.write(_READY)

    def connection_lost(self, error: Exception | None) -> None:
        self._relay.connections.pop(self.number, None)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._is_upgrading:
            return  # the answer would leave without encryption
        answers: list[bytes] = []
        while self._step(answers):
            pass
        if answers and self._transport is not None:
            self._transport.write(b"".join(answers))

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def goaway(self, last_stream_id: int, error_code: int, debug: bytes) -> frozenset[int]:
        if self._transport is not None:
            self._transport.write(b"421 4.3.2 System is shutting down\r\n")
            self._transport.close()
        return frozenset()

    def flush(self) -> None:
        """Nothing is queued."""

    def _step(self, answers: list[bytes]) -> bool:
        """Take one command or message out of the buffer; False when there is none whole."""
        buffer = self._buffer
        if self._in_message:
            end = buffer.find(_END, max(self._searched - len(_END), 0))
            if end < 0:
                self._searched = len(buffer)
                return False
            del buffer[: end + len(_END)]
            self._in_message = False
            self._taken()
            answers.append(b"250 2.0.0 Ok: queued as %X\r\n" % self._relay.journal.requests)
            return bool(buffer)
        end = buffer.find(b"\r\n")
        if end < 0:
            return False
        line = bytes(buffer[:end])
        del buffer[: end + 2]
        if self._login is not None:
            answers.append(self._login(line))
        else:
            answers.append(self._command(line))
        return bool(buffer)

    def _taken(self) -> None:
        journal = self._relay.journal
        journal.requests += self._recipients
        journal.accepted += self._recipients
        journal.outcomes["accepted"] += self._recipients
        self._recipients = 0
        self._searched = 0

    def _command(self, line: bytes) -> bytes:
        verb = line[:4].upper()
        if verb == b"MAIL":
            self._recipients = 0
            return b"250 2.1.0 Ok\r\n"
        if verb == b"RCPT":
            return self._recipient(line)
        if verb == b"DATA":
            if not self._recipients:
                return b"503 5.5.1 No valid recipients\r\n"
            self._in_message, self._searched = True, 0
            self._buffer[:0] = b"\r\n"  # so that a message without a line ends too
            return b"354 End data with <CR><LF>.<CR><LF>\r\n"
        if verb in (b"EHLO", b"HELO"):
            return self._hello()
        if verb == b"AUTH":
            return self._authenticate(line)
        if verb == b"STAR":
            return self._start_tls()
        if verb == b"QUIT":
            if self._transport is not None:
                asyncio.get_running_loop().call_soon(self._transport.close)
            return b"221 2.0.0 Bye\r\n"
        return b"250 2.0.0 Ok\r\n"

    def _recipient(self, line: bytes) -> bytes:
        behaviours = self._relay.behaviours
        if b"+" in line or behaviours.rules():
            address = line.partition(b"<")[2].partition(b">")[0].decode("utf-8", "replace")
            behaviour = behaviours.choose(address)
            if behaviour.action is Action.ANSWER and not behaviour.accepted:
                self._relay.journal.requests += 1
                self._relay.journal.outcomes["refused"] += 1
                return behaviour.line(address).encode() + b"\r\n"
        self._recipients += 1
        return b"250 2.1.5 Ok\r\n"

    def _hello(self) -> bytes:
        size = self._relay.settings.max_message_bytes
        lines = [HOSTNAME, f"SIZE {size}", "8BITMIME", "SMTPUTF8", "PIPELINING", "ENHANCEDSTATUSCODES"]
        lines.append("AUTH LOGIN PLAIN" if self._is_tls else "STARTTLS")
        return "".join(f"250-{line}\r\n" for line in lines).encode() + b"250 HELP\r\n"

    def _authenticate(self, line: bytes) -> bytes:
        _, mechanism, first = [*line.split(), b"", b""][:3]
        if mechanism.upper() == b"PLAIN":
            if first:
                return self._plain(first)
            self._login = self._plain
            return b"334 \r\n"
        self._login = self._login_name
        return self._login_name(first) if first else b"334 VXNlciBOYW1lAA==\r\n"

    def _plain(self, line: bytes) -> bytes:
        _, username, password = [*_decoded(line).split(b"\0"), b"", b""][:3]
        return self._verdict(username, password)

    def _login_name(self, line: bytes) -> bytes:
        self._username, self._login = _decoded(line), self._login_password
        return b"334 UGFzc3dvcmQA\r\n"

    def _login_password(self, line: bytes) -> bytes:
        return self._verdict(self._username, _decoded(line))

    def _verdict(self, username: bytes, password: bytes) -> bytes:
        self._login = None
        if self._relay.account(username, password) is None:
            return b"535 5.7.8 Authentication credentials invalid\r\n"
        return b"235 2.7.0 Authentication successful\r\n"

    def _start_tls(self) -> bytes:
        assert self._transport is not None
        self._transport.write(b"220 2.0.0 Ready to start TLS\r\n")
        self._transport.pause_reading()
        self._buffer.clear()
        self._is_upgrading = True
        self._starting_tls = asyncio.ensure_future(self._upgrade(self._transport))
        return b""

    async def _upgrade(self, transport: asyncio.Transport) -> None:
        try:
            upgraded = await asyncio.get_running_loop().start_tls(transport, self, self._relay.tls, server_side=True)
        except OSError:
            return
        assert isinstance(upgraded, asyncio.Transport)
        self._transport, self._is_tls, self._is_upgrading = upgraded, True, False
        self.data_received(b"")


def _decoded(line: bytes) -> bytes:
    try:
        return b64decode(line, validate=True)
    except (binascii.Error, ValueError):
        return b""
