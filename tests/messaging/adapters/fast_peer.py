"""The fastest HTTP/2 server that Python can be: it answers 200 to every request and reads none of them.

It walks frame headers and never decodes a header block, so it costs a few µs for a request. For tests of volume.
"""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _SETTINGS, _PING = 0, 1, 4, 6
_END_STREAM, _ACK, _END_HEADERS = 1, 1, 4
_WINDOW = 1 << 30


def _frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


_SETTINGS_FRAME = _frame(_SETTINGS, 0, 0, b"\x00\x03" + (1000).to_bytes(4, "big"))
_WINDOW_FRAME = _frame(8, 0, 0, _WINDOW.to_bytes(4, "big"))
_ANSWER_HEAD = (1).to_bytes(3, "big") + bytes((_HEADERS, _END_STREAM | _END_HEADERS))
_ANSWER_TAIL = b"\x88"
"""HPACK: `:status: 200` of the static table."""


class _FastConnection(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.buffer = b""
        self.greeted = False
        transport.write(_SETTINGS_FRAME + _WINDOW_FRAME)

    def data_received(self, data: bytes) -> None:
        buffer = self.buffer + data
        at = 0
        if not self.greeted:
            if len(buffer) < len(_PREFACE):
                self.buffer = buffer
                return
            at, self.greeted = len(_PREFACE), True
        answers = []
        while len(buffer) - at >= 9:
            end = at + 9 + int.from_bytes(buffer[at : at + 3], "big")
            if end > len(buffer):
                break
            kind, flags = buffer[at + 3], buffer[at + 4]
            if kind in (_DATA, _HEADERS):
                if flags & _END_STREAM:
                    answers += (_ANSWER_HEAD, buffer[at + 5 : at + 9], _ANSWER_TAIL)
            elif kind == _SETTINGS and not flags & _ACK:
                answers.append(_frame(_SETTINGS, _ACK, 0))
            elif kind == _PING and not flags & _ACK:
                answers.append(_frame(_PING, _ACK, 0, buffer[at + 9 : end]))
            at = end
        self.buffer = buffer[at:]
        if answers:
            self.transport.write(b"".join(answers))


async def _serve(certificate: str) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    tls.set_alpn_protocols(["h2"])
    loop = asyncio.get_running_loop()
    server = await loop.create_server(_FastConnection, "127.0.0.1", 0, ssl=tls)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await loop.run_in_executor(None, sys.stdin.read)


@contextmanager
def running_fast_peer(certificate: Path, ca_file: Path) -> Iterator[tuple[str, str]]:
    """(address, authority) of a fast peer in a process of its own, which ends with the block."""
    with subprocess.Popen(
        [sys.executable, __file__, str(certificate)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield f"https://localhost:{int(process.stdout.readline())}", str(ca_file)
        finally:
            process.stdin.close()
            process.wait(10)


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1]))
