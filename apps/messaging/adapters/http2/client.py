"""Connections to origins, time-outs, and the exchange of requests for answers."""

from __future__ import annotations

import logging
import os
import select
import socket
import ssl
import time
from collections import deque
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from apps.messaging.adapters.http2.connection import Answer, Connection, ConnectionEnded, Failure, Request, Stream

log = logging.getLogger(__name__)

Tag = TypeVar("Tag")

CONNECT_S = 5.0
"""For TCP and TLS together, at most; never longer than the time-out of a request."""
TRIES_MAX = 5
"""How often a request that was not looked at is put on a connection."""
IDLE_S = 0.02
"""How long to wait for the network before a source that had nothing is asked again."""
WAIT_S = 1.0
AWAY_S = 0.25
"""A caller that was elsewhere for longer gets that time added: answers that came meanwhile must be read first."""
REST_S = 1.0
"""After a failed connect, requests to the same origin fail at once for so long."""


class Origin:
    """A provider's address and our connections to it."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.name = f"{parts.scheme}://{parts.netloc}"
        self.host, self.port = parts.hostname or "", parts.port or 443
        self.authority = parts.netloc.encode()
        self.connections: list[Connection] = []
        self.rests_until = 0.0
        self.trouble = ""
        """Why the last connect failed."""


class Http2Client:
    """Open connections to providers, kept across calls of `exchange`. Belongs to one thread.

    Opens at most `connections` to each origin, with at most `streams` requests in flight on each, fewer if the
    provider says so. Each request has `timeout_s` from when it is taken to its whole answer. Connects on the first
    request; after a fork the child starts with no connections and leaves its parent's alone.
    """

    def __init__(self, *, ca_file: str = "", connections: int = 4, streams: int = 100, timeout_s: float = 15.0) -> None:
        self.connections, self.streams, self.timeout_s = connections, streams, timeout_s
        self._ca_file = ca_file
        self._context: ssl.SSLContext | None = None
        self._owner = os.getpid()
        self._busy = False
        self._origins: dict[str, Origin] = {}
        self._by_fd: dict[int, tuple[Origin, Connection]] = {}
        self._poll = select.poll()
        self._waiting: deque[Stream] = deque()
        """Taken, and not on a connection now."""
        self._answers: list[Answer[Any]] = []
        self._logged: set[str] = set()
        self._ran_at = 0.0

    def close(self) -> None:
        """Close the connections. The next `exchange` would open new ones."""
        quietly = self._owner != os.getpid()
        for _, connection in self._by_fd.values():
            connection.close(quietly=quietly)
        self._origins, self._by_fd = {}, {}
        self._poll = select.poll()
        self._waiting.clear()
        self._answers = []
        self._owner = os.getpid()

    # --- The exchange -------------------------------------------------------------------------------------------

    def exchange(self, requests: Iterable[Request[Tag] | Answer[Tag] | None]) -> Iterator[Answer[Tag]]:
        """Send each request, and yield one answer for each, in the order the answers come.

        `requests` is asked only for what can be sent now. It may give None when it has nothing yet (it is asked
        again when an answer came, or after `IDLE_S`), and an `Answer` where none needs to be fetched, which is
        passed on. When it raises, what is in flight is answered first, then the exception goes on. Closing the
        iterator early gives up what is in flight.
        """
        if self._owner != os.getpid():
            self.close()
            self._busy = False
        if self._busy:
            raise RuntimeError("an Http2Client does one exchange at a time")
        self._busy = True
        self._logged.clear()
        self._ran_at = time.monotonic()
        source, more, error = iter(requests), True, None
        try:
            if self._by_fd:
                self._run(0.0)  # what ended while nobody looked must not get the first requests
            while True:
                is_idle = False
                while more and self._has_room():
                    try:
                        request = next(source)
                    except StopIteration:
                        more = False
                    except Exception as raised:
                        more, error = False, raised
                    else:
                        if request is None:
                            is_idle = True
                            break
                        if type(request) is Answer:
                            yield request
                        else:
                            self._place(Stream(request, time.monotonic() + self.timeout_s))  # type: ignore[arg-type]
                if not self._answers:
                    if not more and not self._waiting and not self._in_flight():
                        break
                    self._run(IDLE_S if is_idle else WAIT_S)
                answers, self._answers = self._answers, []
                yield from answers
            if error is not None:
                raise error
        finally:
            self._busy = False
            self._abandon()

    def _in_flight(self) -> int:
        return sum(len(connection.streams) for _, connection in self._by_fd.values())

    def _has_room(self) -> bool:
        """Whether another request can be taken: it will find a place on a connection, or open one."""
        if self._waiting:
            return False
        if not self._by_fd:
            return True
        for origin in self._origins.values():
            if len(origin.connections) < self.connections:
                return True
            for connection in origin.connections:
                if connection.room > 0:
                    return True
        return False

    def _abandon(self) -> None:
        """Give up what is in flight: the caller wants no more answers."""
        self._waiting.clear()
        self._answers = []
        for _, connection in list(self._by_fd.values()):
            for stream_id in list(connection.streams):
                connection.give_up(stream_id)

    # --- Placing requests ---------------------------------------------------------------------------------------

    def _place(self, stream: Stream) -> None:
        """Put a request on a connection that has room, or on a new one; else it waits, or fails if there is no way."""
        request = stream.request
        origin = self._origins.get(request.origin) or self._origin(request.origin)
        if stream.wants_new_connection:
            stream.wants_new_connection = False
            for old in origin.connections:
                old.end()
        for connection in origin.connections:  # the first with room: the fuller its records, the cheaper each request
            if connection.room > 0:
                stream.tries += 1
                connection.start(stream)
                return
        if self._may_open(origin):
            self._open(origin, stream)
        else:
            self._waiting.append(stream)

    def _origin(self, url: str) -> Origin:
        return self._origins.setdefault(url, Origin(url))

    def _may_open(self, origin: Origin) -> bool:
        """Another connection only when those there are told their limits and are full."""
        live = [c for c in origin.connections if not c.is_ending]
        return len(live) < self.connections and all(c.is_ready for c in live)

    def _open(self, origin: Origin, stream: Stream) -> None:
        """Connect; the request waits for the peer's first word. Where no connection is to be had, it fails."""
        now = time.monotonic()
        if now >= origin.rests_until:
            try:
                connection = self._connect(origin)
            except ConnectionEnded as ended:
                origin.rests_until, origin.trouble = time.monotonic() + REST_S, ended.reason
            else:
                origin.connections.append(connection)
                self._by_fd[connection.sock.fileno()] = (origin, connection)
                self._poll.register(connection.sock.fileno(), select.POLLIN | select.POLLOUT)
                self._waiting.append(stream)
                return
        if any(not c.is_ending for c in origin.connections):
            self._waiting.append(stream)  # the connections that there are must do
        else:
            self._fail(origin, stream, Failure.NOT_SENT, origin.trouble)

    def _connect(self, origin: Origin) -> Connection:
        """TCP and TLS. Blocks for `CONNECT_S` at most; raises `ConnectionEnded`."""
        limit_s = min(CONNECT_S, self.timeout_s)
        if self._context is None:
            self._context = tls_context(self._ca_file)
        try:
            plain = socket.create_connection((origin.host, origin.port), timeout=limit_s)
        except socket.gaierror:
            raise ConnectionEnded("couldnt_resolve_host") from None
        except OSError:
            raise ConnectionEnded("couldnt_connect") from None
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # a peer that vanishes without a word is noticed by the kernel
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(self.timeout_s * 1000))
        try:
            sock = self._context.wrap_socket(plain, server_hostname=origin.host)
        except ssl.SSLCertVerificationError:
            plain.close()
            raise ConnectionEnded("peer_failed_verification") from None
        except OSError:
            plain.close()
            raise ConnectionEnded("ssl_connect_error") from None
        if sock.selected_alpn_protocol() != "h2":
            sock.close()
            raise ConnectionEnded("no_http2")
        sock.setblocking(False)
        return Connection(sock, origin.authority, streams=self.streams, now=time.monotonic())

    # --- Driving the connections --------------------------------------------------------------------------------

    def _run(self, wait_s: float) -> None:
        """Write and read what can be, waiting for the network at most `wait_s`; look at time-outs and at what waits."""
        began = time.monotonic()
        if began - self._ran_at > AWAY_S:
            self._make_up_for(began - self._ran_at)
        for fd, (origin, connection) in list(self._by_fd.items()):
            if connection.wants_to_write:
                self._attempt(origin, connection, began, read=False)
                if fd in self._by_fd:
                    more = select.POLLOUT if connection.wants_to_write else 0
                    self._poll.modify(fd, select.POLLIN | more)
        until_s = max(0.0, min(wait_s, self._next_deadline() - began))
        for fd, _ in self._poll.poll(until_s * 1000):
            if fd in self._by_fd:
                origin, connection = self._by_fd[fd]
                self._attempt(origin, connection, time.monotonic(), read=True)
        now = self._ran_at = time.monotonic()
        self._look_at_time_outs(now)
        self._leave_ended()
        for _ in range(len(self._waiting)):
            before = len(self._waiting)
            self._place(self._waiting.popleft())
            if len(self._waiting) == before:  # nothing has room: the others would not find any either
                self._waiting.rotate(1)
                break

    def _attempt(self, origin: Origin, connection: Connection, now: float, *, read: bool) -> None:
        try:
            if read:
                connection.read(now)
            if connection.wants_to_write:
                connection.write()
        except ConnectionEnded as ended:
            self._collect(origin, connection)
            self._lose(origin, connection, ended.reason)
        else:
            self._collect(origin, connection)

    def _collect(self, origin: Origin, connection: Connection) -> None:
        """Take the answers; what was not looked at is sent again."""
        if connection.answers:
            for answer in connection.answers:
                if answer.failure is not None:
                    self._tell(origin, answer.reason)
            self._answers += connection.answers
            connection.answers = []
        for stream in connection.refused:
            self._send_again(origin, stream, "refused_stream")
        connection.refused = []

    def _send_again(self, origin: Origin, stream: Stream, reason: str) -> None:
        if stream.tries < TRIES_MAX:
            self._waiting.append(stream)
        else:
            self._fail(origin, stream, Failure.NOT_SENT, reason)

    def _lose(self, origin: Origin, connection: Connection, reason: str) -> None:
        """The connection is gone: what had left is unknown, what had not is sent again."""
        self._forget(origin, connection)
        for stream in connection.streams.values():
            if connection.may_have_arrived(stream):
                self._fail(origin, stream, Failure.UNKNOWN, reason)
            else:
                self._send_again(origin, stream, reason)
        connection.streams = {}

    def _forget(self, origin: Origin, connection: Connection) -> None:
        fd = connection.sock.fileno()
        self._poll.unregister(fd)
        del self._by_fd[fd]
        origin.connections.remove(connection)
        connection.close()

    def _leave_ended(self) -> None:
        """Close connections that take no new requests and owe no answer."""
        for origin, connection in list(self._by_fd.values()):
            if connection.is_ending and not connection.streams:
                self._forget(origin, connection)

    # --- Time-outs ----------------------------------------------------------------------------------------------

    def _next_deadline(self) -> float:
        """Of the oldest request of each connection: they all have the same time from when they were taken."""
        oldest = [next(iter(c.streams.values())).deadline for _, c in self._by_fd.values() if c.streams]
        oldest += [self._waiting[0].deadline] if self._waiting else []
        return min(oldest, default=float("inf"))

    def _make_up_for(self, away_s: float) -> None:
        for _, connection in self._by_fd.values():
            for stream in connection.streams.values():
                stream.deadline += away_s
        for stream in self._waiting:
            stream.deadline += away_s

    def _look_at_time_outs(self, now: float) -> None:
        for origin, connection in list(self._by_fd.values()):
            late = [key for key, stream in connection.streams.items() if stream.deadline <= now]
            if not late:
                continue
            for stream_id in late:
                has_left = connection.may_have_arrived(connection.streams[stream_id])
                failure = Failure.UNKNOWN if has_left else Failure.NOT_SENT
                self._fail(origin, connection.give_up(stream_id), failure, "operation_timedout")
            if now - connection.heard_at >= self.timeout_s / 2:
                self._lose(origin, connection, "operation_timedout")  # it fell silent: leave it, and others with it
        while self._waiting and self._waiting[0].deadline <= now:
            stream = self._waiting.popleft()
            self._fail(self._origin(stream.request.origin), stream, Failure.NOT_SENT, "operation_timedout")

    def _fail(self, origin: Origin, stream: Stream, failure: Failure, reason: str) -> None:
        self._tell(origin, reason)
        self._answers.append(stream.failed(failure, reason))

    def _tell(self, origin: Origin, reason: str) -> None:
        """Log each kind of failure once an exchange; the path would name the recipient, so it is not shown."""
        if reason not in self._logged:
            self._logged.add(reason)
            log.warning("no answer from %s: %s", origin.name, reason)


@cache
def tls_context(ca_file: str) -> ssl.SSLContext:
    """TLS 1.2 or later with HTTP/2, peers verified by `ca_file` or the system's authorities."""
    context = ssl.create_default_context(cafile=ca_bundle(ca_file) or None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["h2"])
    return context


_SYSTEM_CA_FILES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")


def ca_bundle(ca_file: str) -> str:
    """`ca_file`, or the system's bundle, which a Python from elsewhere does not always find."""
    if ca_file:
        return ca_file
    candidates = (ssl.get_default_verify_paths().cafile, *_SYSTEM_CA_FILES)
    return next((path for path in candidates if path and Path(path).exists()), "")
