"""HTTP requests to addresses that somebody else chose: webhooks.

Whoever may set such an address could make us call our own network, or the cloud's metadata service, and read the
answer from an error (server-side request forgery, OWASP API7:2023). So: https only; a name is resolved once, every
address that it has must be a public one, and the connection goes to an address that was checked, so that a name cannot
resolve to another one in between; no redirects, no proxy from the environment; the whole request ends after
`timeout_s`, whatever the other side does; and of the answer nothing is kept but its status.

`OUTGOING_ALLOW_PRIVATE` lifts the rules about addresses and https, for installations whose tenants are all trusted.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import httpcore
from django.conf import settings

URL_LENGTH_MAX = 500
PORTS_REFUSED = frozenset({22, 25, 465, 587, 6379, 5432, 3306, 11211})
"""Where a request could be taken for another protocol."""

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_IPV6_GLOBAL = ipaddress.ip_network("2000::/3")
_IETF = ipaddress.ip_network("192.0.0.0/24")
"""Which `is_global` counts in part, by Python's version."""
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class OutgoingRefused(Exception):
    """We do not call this address; it is not worth another attempt. The message may be shown to who chose it."""


class OutgoingFailed(Exception):
    """The other side could not be reached, or did not answer in time. The message may be shown to who chose it."""


class Answer(NamedTuple):
    status: int

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300


def signed(secret: str, body: bytes, *, at_s: int | None = None) -> dict[str, str]:
    """Headers by which the receiver knows that `body` is ours, and new: HMAC-SHA256 of `<timestamp>.<body>` in hex."""
    timestamp = str(int(time.time()) if at_s is None else at_s)
    mac = hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    return {"X-Automata-Timestamp": timestamp, "X-Automata-Signature": f"v1={mac}"}


def check_url(url: str) -> None:
    """Raise `OutgoingRefused` for an address that is none, or is never called. Names are not resolved here."""
    _parsed(url)


def post(url: str, body: bytes, headers: Mapping[str, str], *, timeout_s: float | None = None) -> Answer:
    """POST `body`, and wait for the status of the answer; a redirect is an answer like any other.

    `timeout_s` is `OUTGOING_TIMEOUT_S` unless told, for everything together but the resolver's own time-out. Raise
    `OutgoingRefused` or `OutgoingFailed`. Never inside a transaction.
    """
    host, port, target, is_tls = _parsed(url)
    deadline = time.monotonic() + (timeout_s or settings.OUTGOING_TIMEOUT_S)
    backend = _CheckedBackend(deadline)
    own = {"Host": _host_header(host, port, is_tls), "User-Agent": "Automata-Signal", "Connection": "close"}
    sent = [*own.items(), *headers.items(), ("Content-Length", str(len(body)))]
    origin = httpcore.URL(scheme=b"https" if is_tls else b"http", host=host.encode("ascii"), port=port, target=target)
    try:
        with (
            httpcore.ConnectionPool(ssl_context=_tls(), network_backend=backend, retries=0) as pool,
            backend.ended_at_deadline(),
            pool.stream("POST", origin, headers=sent, content=body, extensions=_timeouts(deadline)) as answer,
        ):
            return Answer(answer.status)
    except (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError, OSError) as error:
        if time.monotonic() >= deadline:
            raise OutgoingFailed("the server did not answer in time") from None
        raise OutgoingFailed(_without_addresses(error)) from None


# --- The address ---------------------------------------------------------------------------------------------------


def _parsed(url: str) -> tuple[str, int, bytes, bool]:
    """Host, port, path with query, and whether it is TLS; or `OutgoingRefused`."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
        # What a browser would take for a name of its own; ours goes out as it was checked.
        ascii_host = str(ipaddress.IPv6Address(host)) if ":" in host else host.encode("idna").decode("ascii")
        ascii_host.encode("ascii")
        target = f"{parts.path or '/'}{'?' + parts.query if parts.query else ''}".encode("ascii")
    except (ValueError, UnicodeError):
        raise OutgoingRefused("this is not an address") from None
    if len(url) > URL_LENGTH_MAX or any(
        character <= " " or character == "\x7f" or character == "\\" for character in url
    ):
        raise OutgoingRefused("this is not an address")
    is_tls = parts.scheme == "https"
    if not is_tls and not (parts.scheme == "http" and settings.OUTGOING_ALLOW_PRIVATE):
        raise OutgoingRefused("the address must begin with https://")
    if (
        not ascii_host
        or "%" in ascii_host
        or parts.username is not None
        or parts.password is not None
        or parts.fragment
    ):
        raise OutgoingRefused("the address must have a host, and neither a user, a password nor a fragment")
    port = port if port is not None else (443 if is_tls else 80)
    if port in PORTS_REFUSED or port == 0:
        raise OutgoingRefused(f"port {port} is not called")
    if (literal := _literal(ascii_host)) is not None:
        _refuse_inner([literal])
    return ascii_host, port, target, is_tls


def _host_header(host: str, port: int, is_tls: bool) -> str:
    name = f"[{host}]" if ":" in host else host
    return name if port == (443 if is_tls else 80) else f"{name}:{port}"


def _literal(host: str) -> Address | None:
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host)
    return None


def is_public(address: Address) -> bool:
    """Whether it is an address of the internet at large. IPv4 inside of IPv6 counts as what it stands for."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is None and address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if address.teredo is not None:
            return False
        if inner is not None:
            return is_public(inner)
        if address not in _IPV6_GLOBAL:
            return False
    if address in _IETF:
        return False
    # is_global is False for private, loopback, link-local (the metadata services), shared (RFC 6598), documentation,
    # and reserved addresses; multicast has ranges that it counts as global.
    return address.is_global and not address.is_multicast and not address.is_reserved


def _refuse_inner(addresses: Iterable[Address]) -> None:
    if not settings.OUTGOING_ALLOW_PRIVATE and not all(is_public(address) for address in addresses):
        raise OutgoingRefused("the host is in a private or special network")


def resolved(host: str, port: int) -> list[str]:
    """The host's addresses, all of them checked: one that is not public refuses the host."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    except (OSError, UnicodeError):
        raise OutgoingFailed("the host has no address") from None
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    _refuse_inner(ipaddress.ip_address(address.partition("%")[0]) for address in addresses)
    return addresses


# --- The connection ------------------------------------------------------------------------------------------------


class _CheckedBackend(httpcore.NetworkBackend):
    """Connects to addresses that were checked. TLS still names, and verifies, the host of the URL."""

    TRIED_MAX = 3

    def __init__(self, deadline: float) -> None:
        self._deadline = deadline
        self._sockets: list[socket.socket] = []
        self._lock = threading.Lock()
        self._is_over = False

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        addresses = resolved(host, port)[: self.TRIED_MAX]
        for number, address in enumerate(addresses):
            left = max(0.01, self._deadline - time.monotonic()) / (len(addresses) - number)
            try:
                stream = httpcore.SyncBackend().connect_tcp(address, port, timeout=left)
            except (httpcore.NetworkError, httpcore.TimeoutException):
                if number == len(addresses) - 1:
                    raise
            else:
                self._keep(stream.get_extra_info("socket"))
                return stream
        raise httpcore.ConnectError("no address")

    def _keep(self, connection: socket.socket) -> None:
        with self._lock:
            # A copy of the descriptor: TLS takes the first one over.
            self._sockets.append(connection.dup())
            if self._is_over:
                self._end()

    @contextlib.contextmanager
    def ended_at_deadline(self) -> Any:
        """Time-outs of sockets begin anew with each byte; so that nobody can keep us with one a second, the connection
        is shut down at the deadline."""
        timer = threading.Timer(max(0.0, self._deadline - time.monotonic()), self._expire)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            timer.join()
            for connection in self._sockets:
                connection.close()

    def _expire(self) -> None:
        with self._lock:
            self._is_over = True
            self._end()

    def _end(self) -> None:
        for connection in self._sockets:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


def _timeouts(deadline: float) -> dict[str, Any]:
    left = max(0.01, deadline - time.monotonic())
    return {"timeout": dict.fromkeys(("connect", "read", "write", "pool"), left)}


@cache
def _tls() -> ssl.SSLContext:
    """The system's authorities, and those of certifi where a system has none."""
    return httpcore.default_ssl_context()


def _without_addresses(error: Exception) -> str:
    """What went wrong, in words that tell nothing of the network: the system's text may name addresses."""
    if isinstance(error, httpcore.TimeoutException):
        return "the server did not answer in time"
    if "certificate" in str(error).lower():
        return "the server's certificate is not valid"
    if isinstance(error, httpcore.ConnectError):
        return "the server could not be reached"
    return "the server broke off, or its answer is not HTTP"
