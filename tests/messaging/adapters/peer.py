"""A provider that does what a test says: TLS and HTTP/2 by the `h2` library, in a thread of its own.

`Peer.answer` is called for each whole request and returns what the peer does. Where a test needs the
behaviour of a real provider (signatures, token states), the sandbox is the better partner; this one is
for what the sandbox does not do: GOAWAY with a chosen last stream, resets, answers out of order, silence.
"""

from __future__ import annotations

import asyncio
import datetime
import http.server
import ipaddress
import json
import ssl
import threading
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h2.settings
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hyperframe.frame import GoAwayFrame


@dataclass(frozen=True, slots=True)
class Seen:
    """One whole request as it arrived."""

    connection: int
    stream: int
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Reply:
    """Answer, at once or after a while."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    after_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Hang:
    """Never answer."""


@dataclass(frozen=True, slots=True)
class Reset:
    """Reset this stream with an error code of RFC 9113 section 7."""

    code: int = 2


@dataclass(frozen=True, slots=True)
class Abort:
    """Drop the whole connection without a word, unanswered requests and all."""


@dataclass(frozen=True, slots=True)
class GoAway:
    """Answer `reply`, then GOAWAY: what came after `last_stream` (None: this one) is never looked at."""

    last_stream: int | None = None
    reply: Reply | None = field(default_factory=Reply)
    debug: bytes = b""
    close_after_s: float | None = None
    """When to close the connection; None leaves that to the client."""


Action = Reply | Hang | Reset | Abort | GoAway


class Peer:
    """What the test and the server thread share. Read `requests` only when the sends are over."""

    def __init__(self, certificate: Path, ca_file: Path) -> None:
        self.ca_file = str(ca_file)
        self.url = ""
        self.answer: Callable[[Seen], Action] = lambda _: Reply()
        self.requests: list[Seen] = []
        self.connections = 0
        self.streams: int | None = 100
        """SETTINGS_MAX_CONCURRENT_STREAMS of a new connection."""
        self.streams_after_first: int | None = None
        """What the limit grows to once one request was answered (APNs: 1, then more)."""
        self.most_open = 0
        """The most streams that were open at once on one connection."""
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.tls.load_cert_chain(certificate)
        self.tls.set_alpn_protocols(["h2"])

    def bodies(self) -> list[bytes]:
        return [seen.body for seen in self.requests]


class _Connection(asyncio.Protocol):
    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        peer.connections += 1
        self.number = peer.connections
        config = h2.config.H2Configuration(client_side=False, header_encoding="utf-8")
        self.h2 = h2.connection.H2Connection(config)
        self.open: dict[int, tuple[dict[str, str], bytearray]] = {}
        self.last_stream: int | None = None
        self.answered = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        if self.peer.streams is not None:
            # Held to from the first byte on, though the client cannot know it yet: as strict as can be.
            limit = {h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: self.peer.streams}
            self.h2.local_settings = h2.settings.Settings(client=False, initial_values=limit)
        self.h2.initiate_connection()
        self._flush()

    def _flush(self) -> None:
        data = self.h2.data_to_send()
        if data and not self.transport.is_closing():
            self.transport.write(data)

    def data_received(self, data: bytes) -> None:
        for event in self.h2.receive_data(data):
            match event:
                case h2.events.RequestReceived(stream_id=int(stream), headers=headers):
                    self.open[stream] = ({str(k): str(v) for k, v in headers or []}, bytearray())
                    self.peer.most_open = max(self.peer.most_open, len(self.open))
                case h2.events.DataReceived(stream_id=int(stream)):
                    if stream in self.open:
                        self.open[stream][1].extend(event.data or b"")
                    self.h2.acknowledge_received_data(event.flow_controlled_length or 0, stream)
                case h2.events.StreamReset(stream_id=int(stream)):
                    self.open.pop(stream, None)
                case h2.events.StreamEnded(stream_id=int(stream)):
                    self._whole(stream)
                case h2.events.ConnectionTerminated():
                    self.transport.close()
                    return
            if self.transport.is_closing():
                return
        self._flush()

    def _whole(self, stream: int) -> None:
        if self.last_stream is not None and stream > self.last_stream:
            return
        headers, body = self.open[stream]
        seen = Seen(self.number, stream, headers[":method"], headers[":path"], headers, bytes(body))
        self.peer.requests.append(seen)
        match self.peer.answer(seen):
            case Reply(after_s=after_s) as reply if after_s > 0:
                asyncio.get_running_loop().call_later(after_s, self._reply, stream, reply)
            case Reply() as reply:
                self._reply(stream, reply)
            case Reset(code):
                self.open.pop(stream)
                self.h2.reset_stream(stream, code)
            case Abort():
                self.transport.abort()
            case GoAway() as goaway:
                self._go_away(stream, goaway)
            case Hang():
                pass

    def _reply(self, stream: int, reply: Reply) -> None:
        if stream not in self.open or self.transport.is_closing():
            return
        self.open.pop(stream)
        headers = [(":status", str(reply.status)), *reply.headers.items()]
        try:
            self.h2.send_headers(stream, headers, end_stream=not reply.body)
        except h2.exceptions.ProtocolError:  # the client has reset the stream meanwhile
            return
        if reply.body:
            self.h2.send_data(stream, reply.body, end_stream=True)
        if not self.answered and self.peer.streams_after_first is not None:
            limit: dict[h2.settings.SettingCodes | int, int] = {
                h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: self.peer.streams_after_first
            }
            self.h2.update_settings(limit)
        self.answered = True
        self._flush()

    def _go_away(self, stream: int, goaway: GoAway) -> None:
        if goaway.reply is not None:
            self._reply(stream, goaway.reply)
        self.last_stream = stream if goaway.last_stream is None else goaway.last_stream
        for refused in [s for s in self.open if s > self.last_stream]:
            del self.open[refused]
        # By hand, because h2 would let nothing more be sent after it.
        self.transport.write(GoAwayFrame(0, self.last_stream, 0, goaway.debug).serialize())
        if goaway.close_after_s is not None:
            asyncio.get_running_loop().call_later(goaway.close_after_s, self.transport.close)


@contextmanager
def running_peer(certificate: Path, ca_file: Path) -> Iterator[Peer]:
    """A peer on a free port of 127.0.0.1, stopped at the end."""
    peer = Peer(certificate, ca_file)
    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(loop.create_server(lambda: _Connection(peer), "127.0.0.1", 0, ssl=peer.tls))
    peer.url = f"https://localhost:{server.sockets[0].getsockname()[1]}"
    thread = threading.Thread(target=loop.run_forever, name="peer", daemon=True)
    thread.start()
    try:
        yield peer
    finally:
        loop.call_soon_threadsafe(server.close)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(5)


def make_certificates(folder: Path) -> tuple[Path, Path]:
    """(certificate with key for localhost, certificate of the authority that signed it), as PEM files."""
    now = datetime.datetime.now(datetime.UTC)

    def build(subject: str, issuer: str, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, subject)]))
            .issuer_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, issuer)]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=2))
        )

    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority = (
        build("peer authority", "peer authority", ca_key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    own = build("localhost", "peer authority", key).add_extension(names, critical=False).sign(ca_key, hashes.SHA256())
    certificate, ca_file = folder / "peer.pem", folder / "authority.pem"
    certificate.write_bytes(
        own.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    ca_file.write_bytes(authority.public_bytes(serialization.Encoding.PEM))
    return certificate, ca_file


class TokenEndpoint:
    """An OAuth token endpoint over HTTP/1.1 and TLS. `answer` gives (status, JSON body) for the n-th request."""

    def __init__(self, ca_file: Path) -> None:
        self.ca_file = str(ca_file)
        self.url = ""
        self.requests: list[dict[str, str]] = []
        self.answer: Callable[[int], tuple[int, dict[str, object]]] = lambda n: (
            200,
            {"access_token": f"token-{n}", "expires_in": 3600, "token_type": "Bearer"},
        )


@contextmanager
def running_token_endpoint(certificate: Path, ca_file: Path) -> Iterator[TokenEndpoint]:
    endpoint = TokenEndpoint(ca_file)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            form = urllib.parse.parse_qsl(self.rfile.read(int(self.headers["content-length"])).decode())
            endpoint.requests.append(dict(form))
            status, body = endpoint.answer(len(endpoint.requests))
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content)))
            if 300 <= status < 400:
                self.send_header("location", "https://elsewhere.invalid/token")
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    server.socket = tls.wrap_socket(server.socket, server_side=True)
    endpoint.url = f"https://localhost:{server.server_address[1]}/token"
    thread = threading.Thread(target=server.serve_forever, name="token-endpoint", daemon=True)
    thread.start()
    try:
        yield endpoint
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
