"""A multiplexed HTTP/2 client: many requests in flight on a few connections, one answer for each.

Built on libcurl (`pycurl`), driven by `poll` and `socket_action`, with reused handles: about 25 µs of CPU for a
request, flat in memory. What was measured, and why not another client: docs/performance.md.

A request ends in exactly one `Answer`. Where the provider gave none, `Answer.failure` says whether the request
can have arrived: libcurl asks this module for a request's body when it writes the request, so a body that was
never asked for never left.

libcurl sends a request again by itself when a reused connection ends before the first byte of the answer. That
could deliver twice without our knowing, so `_Stream.rewind` allows it only where the provider has said that it
did not look at the request: a refused stream, or one above the last stream of a GOAWAY.
"""

from __future__ import annotations

import contextlib
import enum
import logging
import math
import os
import select
import socket
import ssl
import struct
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar, cast

import pycurl

__all__ = ["Answer", "Failure", "Http2Client", "Request", "ca_bundle"]

log = logging.getLogger(__name__)

Tag = TypeVar("Tag")

WARM_UP_S = 3.0
"""How long a new connection without an answer holds the others back, at most."""
IDLE_S = 0.02
"""How long to wait for the network before a source that had nothing is asked again."""
LOOK_S = 0.25
"""How often all streams are looked at. After a GOAWAY, libcurl 8.23 does not tell some of the refused ones so."""
AWAY_S = 0.5
"""Time the caller took between two answers counts against no request's time-out, if it was longer than this."""
ANSWER_BYTES_MAX = 1 << 20
"""A provider's answer is a few hundred bytes; more is not one."""
BODY_READ_BYTES = 16 * 1024
"""libcurl's buffer for a request's body, per handle: its least, and four times a push payload."""

_CAN_READ = select.POLLIN | select.POLLPRI | select.POLLHUP | select.POLLERR | select.POLLNVAL
_POLL_EVENTS = {
    pycurl.POLL_IN: select.POLLIN,
    pycurl.POLL_OUT: select.POLLOUT,
    pycurl.POLL_INOUT: select.POLLIN | select.POLLOUT,
}
_ERROR_NAMES = {
    code: name.removeprefix("E_").lower()
    for name, code in vars(pycurl).items()
    if name.startswith("E_") and not name.startswith("E_MULTI") and isinstance(code, int)
}
_TCP_ESTABLISHED = 1
_TCP_INFO_LAST_DATA_RECEIVED = 52
"""Offset of `tcpi_last_data_recv` (milliseconds) in Linux's `struct tcp_info`; the state is its first byte."""


class Failure(enum.Enum):
    """Why a request has no answer."""

    NOT_SENT = "not_sent"
    """The whole request never left: it cannot have arrived."""
    UNKNOWN = "unknown"
    """It was written, and the answer never came: it may have arrived."""


class Request(NamedTuple, Generic[Tag]):
    """One POST. `tag` is the caller's own."""

    tag: Tag
    url: str
    headers: Sequence[bytes]
    """`name: value` lines. Give the same object again where they are the same: setting them costs 3 µs."""
    body: bytes
    is_fresh: bool = False
    """Send it on a new connection."""


class Answer(NamedTuple, Generic[Tag]):
    """What came of one request: a status, or 0 and a failure."""

    request: Request[Tag]
    status: int
    retry_after_s: float | None
    """The Retry-After header in seconds; None without one, or with status 200."""
    body: bytes
    failure: Failure | None = None
    reason: str = ""
    """libcurl's name of the failure, for example `operation_timedout` or `couldnt_resolve_host`."""


_NOTHING: Request[None] = Request(None, "", (), b"")


class _Stream:
    """One reusable easy handle, with the request it carries. (No subclass: attributes of `Curl` are slow.)"""

    __slots__ = (
        "chunks",
        "client",
        "easy",
        "getinfo",
        "headers",
        "is_fresh",
        "offset",
        "request",
        "setopt",
        "size",
        "timeout_s",
        "url",
    )

    def __init__(self, client: Http2Client) -> None:
        self.client = client
        self.easy = pycurl.Curl()
        self.setopt, self.getinfo = self.easy.setopt, self.easy.getinfo
        self.request: Request[Any] = _NOTHING
        self.offset = 0
        """How much of the body libcurl has taken to write it: above 0, the request may arrive."""
        self.chunks: list[bytes] = []
        self.url = ""
        self.headers: Sequence[bytes] = ()
        self.size = -1
        self.is_fresh = False
        for option, value in client.options:
            self.setopt(option, value)
        self.set_timeout(client.timeout_s)
        self.setopt(pycurl.READFUNCTION, self.read)
        self.setopt(pycurl.SEEKFUNCTION, self.rewind)
        self.setopt(pycurl.WRITEFUNCTION, self.chunks.append)

    def load(self, request: Request[Any]) -> None:
        """Make this handle carry `request`; only what changed is set."""
        self.request = request
        self.offset = 0
        _, url, headers, body, is_fresh = request
        if url != self.url:
            self.url = url
            self.setopt(pycurl.URL, url)
        if headers is not self.headers:
            self.headers = headers
            self.setopt(pycurl.HTTPHEADER, headers)
        if len(body) != self.size:
            self.size = len(body)
            self.setopt(pycurl.POSTFIELDSIZE, self.size)
        if is_fresh is not self.is_fresh:
            self.is_fresh = is_fresh
            self.setopt(pycurl.FRESH_CONNECT, is_fresh)
        if self.timeout_s != self.client.timeout_s:
            self.set_timeout(self.client.timeout_s)

    def set_timeout(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self.setopt(pycurl.TIMEOUT_MS, max(1, round(timeout_s * 1000)))

    def read(self, size: int) -> bytes:
        """The next part of the body; libcurl calls this to write it."""
        part = self.request.body[self.offset : self.offset + size]
        self.offset += len(part)
        return part

    def rewind(self, offset: int, origin: int) -> int:
        """libcurl asks to send the request again, after it has written the body.

        On a living connection that follows a refusal, so nothing was looked at. When the connection is lost we
        cannot know: the request ends, and its answer says `UNKNOWN`.
        """
        if not self.client.connections_live():
            return pycurl.SEEKFUNC_FAIL
        self.offset = 0
        return pycurl.SEEKFUNC_OK

    def take(self) -> bytes:
        """The answer's body, which is forgotten here."""
        if not self.chunks:
            return b""
        body = b"".join(self.chunks)
        self.chunks.clear()
        return body

    def answered(self) -> Answer[Any]:
        status: int = self.getinfo(pycurl.RESPONSE_CODE)
        if status == 200:
            return Answer(self.request, 200, None, self.take())
        return Answer(self.request, status, self.getinfo(pycurl.RETRY_AFTER) or None, self.take())

    def failed(self, code: int) -> Answer[Any]:
        body = self.take()
        if self.getinfo(pycurl.RESPONSE_CODE) == 200:
            return Answer(self.request, 200, None, body)  # accepted, though the end of the answer is missing
        failure = Failure.UNKNOWN if self.offset else Failure.NOT_SENT
        return Answer(self.request, 0, None, b"", failure, _ERROR_NAMES.get(code, f"curl_{code}"))


class Http2Client:
    """Open connections to providers, kept across calls of `exchange`. Belongs to one thread.

    Opens at most `connections` to each host, with at most `streams` requests in flight on each, fewer if the
    provider says so. Each request has `timeout_s` from when it is taken to its whole answer. Connects on the
    first request; after a fork the child starts with no connections and leaves its parent's alone.
    """

    def __init__(self, *, ca_file: str = "", connections: int = 4, streams: int = 100, timeout_s: float = 15.0) -> None:
        self.connections, self.streams, self.timeout_s = connections, streams, timeout_s
        self.options: list[tuple[int, Any]] = [
            (pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_2TLS),
            (pycurl.PIPEWAIT, 1),
            (pycurl.POST, 1),
            (pycurl.DNS_CACHE_TIMEOUT, 0),  # Apple: an uncached lookup for each connection
            (pycurl.NOSIGNAL, 1),
            (pycurl.MAXFILESIZE, ANSWER_BYTES_MAX),
            (pycurl.UPLOAD_BUFFERSIZE, BODY_READ_BYTES),
            (pycurl.SOCKOPTFUNCTION, self._opened),
        ]
        if bundle := ca_bundle(ca_file):
            self.options.append((pycurl.CAINFO, bundle))
        self._multi: pycurl.CurlMulti | None = None
        self._owner = 0
        self._busy = False
        self._sockets: dict[int, int] = {}
        """Inode by file descriptor of each connection."""
        self._cold: set[int] = set()
        """Connections that have not brought an answer yet."""
        self._warm_at: float | None = None
        """While connections are cold: when to stop waiting for them, in `time.monotonic` seconds."""
        self._poll = select.poll()
        self._wake_at = math.inf
        """When libcurl wants to be called, in `time.monotonic` seconds."""
        self._look_at = 0.0
        """When all streams are looked at, in `time.monotonic` seconds."""
        self._ran_at = 0.0
        """When libcurl last ran, in `time.monotonic` seconds."""
        self._streams: dict[pycurl.Curl, _Stream] = {}
        self._free: list[_Stream] = []

    # --- Life ---------------------------------------------------------------------------------------------------

    def _start(self) -> pycurl.CurlMulti:
        """The multi handle of this process; a new one after a fork."""
        if self._multi is not None and self._owner == os.getpid():
            return self._multi
        if self._multi is not None:
            self._forget_parent()
        self._owner = os.getpid()
        self._multi = multi = pycurl.CurlMulti()
        multi.setopt(pycurl.M_PIPELINING, pycurl.PIPE_MULTIPLEX)
        multi.setopt(pycurl.M_MAX_HOST_CONNECTIONS, self.connections)
        multi.setopt(pycurl.M_MAX_CONCURRENT_STREAMS, self.streams)
        self._cold.clear()
        self._warm_at = None
        multi.setopt(pycurl.M_SOCKETFUNCTION, self._watch)
        multi.setopt(pycurl.M_TIMERFUNCTION, self._set_timer)
        self._poll = select.poll()
        self._wake_at = math.inf
        self._free = [_Stream(self) for _ in range(self.connections * self.streams)]
        self._streams = {stream.easy: stream for stream in self._free}
        return multi

    def _forget_parent(self) -> None:
        """Cut the inherited sockets loose, so that freeing the handles says nothing on the parent's connections."""
        nowhere = os.open(os.devnull, os.O_RDWR)
        for fd in self._open_sockets():
            os.dup2(nowhere, fd)
        os.close(nowhere)
        self._sockets.clear()
        self._busy = False

    def close(self) -> None:
        """Close the connections. The next `exchange` would open new ones."""
        if self._multi is None:
            return
        if self._owner != os.getpid():
            self._forget_parent()
        for stream in self._in_flight():
            self._multi.remove_handle(stream.easy)
        for stream in self._streams.values():
            stream.easy.close()
        self._multi.close()
        self._multi = None
        self._streams, self._free = {}, []

    def _in_flight(self) -> list[_Stream]:
        return list(set(self._streams.values()).difference(self._free))

    # --- The exchange -------------------------------------------------------------------------------------------

    def exchange(self, requests: Iterable[Request[Tag] | Answer[Tag] | None]) -> Iterator[Answer[Tag]]:
        """Send each request, and yield one answer for each, in the order the answers come.

        `requests` is asked only for what can be sent now. It may give None when it has nothing yet (it is asked
        again when an answer came, or after `IDLE_S`), and an `Answer` where none needs to be fetched, which is
        passed on. When it raises, what is in flight is answered first, then the exception goes on. Closing the
        iterator early gives up what is in flight.
        """
        multi = self._start()
        if self._busy:
            raise RuntimeError("an Http2Client does one exchange at a time")
        self._busy = True
        self._ran_at = time.monotonic()
        free, streams, source = self._free, self._streams, iter(requests)
        more, error = True, None
        seen_failures: set[str] = set()
        try:
            while more or len(free) < len(streams):
                idle = False
                while more and free:
                    try:
                        request = next(source)
                    except StopIteration:
                        more = False
                    except Exception as raised:
                        more, error = False, raised
                    else:
                        if type(request) is Request:
                            stream = free.pop()
                            stream.load(request)
                            multi.add_handle(stream.easy)
                        elif request is None:
                            idle = True
                            break
                        else:
                            yield cast("Answer[Tag]", request)
                if idle or len(free) < len(streams):
                    self._run(multi, IDLE_S if idle else 1.0)
                if self._cold and self._warm_at is None:
                    self._hold_back(multi)
                waiting = 1
                while waiting:
                    waiting, done, lost = multi.info_read(self.streams)
                    for easy in done:
                        stream = streams[easy]
                        answer = stream.answered()
                        if self._warm_at is not None:
                            self._cold.discard(stream.getinfo(pycurl.ACTIVESOCKET))
                        multi.remove_handle(easy)
                        free.append(stream)
                        yield answer
                    for easy, code, text in lost:
                        stream = streams[easy]
                        answer = stream.failed(code)
                        if code == pycurl.E_OPERATION_TIMEDOUT and stream.offset:
                            self._drop_if_silent(stream)
                        multi.remove_handle(easy)
                        free.append(stream)
                        if answer.failure is not None and answer.reason not in seen_failures:
                            seen_failures.add(answer.reason)
                            log.warning("no answer from %s: %s (%s)", _origin(stream.url), text, answer.reason)
                        yield answer
                if self._warm_at is not None and (self._warm_at <= time.monotonic() or self._is_warm()):
                    self._let_go(multi)
            if error is not None:
                raise error
        finally:
            self._busy = False
            for stream in self._in_flight():
                multi.remove_handle(stream.easy)
                stream.take()
                free.append(stream)

    def _run(self, multi: pycurl.CurlMulti, wait_s: float) -> None:
        """Wait for the network, at most `wait_s`, and let libcurl do what is due."""
        now = time.monotonic()
        if now - self._ran_at > AWAY_S:
            self._make_up_for(now - self._ran_at)
        until = min(now + wait_s, self._look_at, self._wake_at)
        for fd, events in self._poll.poll(max(0.0, (until - now) * 1000)):
            ready = (pycurl.CSELECT_IN if events & _CAN_READ else 0) | (
                pycurl.CSELECT_OUT if events & select.POLLOUT else 0
            )
            multi.socket_action(fd, ready)
        now = time.monotonic()
        if self._wake_at <= now:
            self._wake_at = math.inf
            multi.socket_action(pycurl.SOCKET_TIMEOUT, 0)
        if self._look_at <= now:
            self._look_at = now + LOOK_S
            multi.perform()
        self._ran_at = time.monotonic()

    def _make_up_for(self, away_s: float) -> None:
        """The caller was busy elsewhere: answers that came meanwhile must be read before time-outs are looked at."""
        for stream in self._in_flight():
            stream.set_timeout(stream.timeout_s + away_s)

    # --- Cold connections ---------------------------------------------------------------------------------------
    #
    # A provider tells its stream limit in its first frame, which libcurl does not wait for: a burst of a hundred
    # requests would meet APNs' first limit of one. So while a connection has brought no answer, each gets one.

    def _hold_back(self, multi: pycurl.CurlMulti) -> None:
        self._warm_at = time.monotonic() + min(self.timeout_s, WARM_UP_S)
        multi.setopt(pycurl.M_MAX_CONCURRENT_STREAMS, 1)

    def _is_warm(self) -> bool:
        self._cold.intersection_update(self._open_sockets())
        return not self._cold

    def _let_go(self, multi: pycurl.CurlMulti) -> None:
        self._warm_at = None
        self._cold.clear()
        multi.setopt(pycurl.M_MAX_CONCURRENT_STREAMS, self.streams)

    # --- libcurl's callbacks ------------------------------------------------------------------------------------

    def _watch(self, what: int, fd: int, multi: pycurl.CurlMulti, data: object) -> None:
        if what == pycurl.POLL_REMOVE:
            self._poll.unregister(fd)
        else:
            self._poll.register(fd, _POLL_EVENTS[what])

    def _set_timer(self, timeout_ms: int) -> None:
        self._wake_at = math.inf if timeout_ms < 0 else time.monotonic() + timeout_ms / 1000

    def _opened(self, fd: int, purpose: int) -> int:
        """A new socket: a peer that vanishes without a word is noticed by the kernel within the time-out."""
        self._sockets[fd] = os.fstat(fd).st_ino
        self._cold.add(fd)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            with _borrowed(fd) as connection:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(self.timeout_s * 1000))
        return pycurl.SOCKOPT_OK

    # --- The state of a connection ------------------------------------------------------------------------------

    def _open_sockets(self) -> list[int]:
        """Our sockets that libcurl has not closed. The inode tells ours from a later file with the same number."""
        for fd, inode in list(self._sockets.items()):
            try:
                ours = os.fstat(fd).st_ino == inode
            except OSError:
                ours = False
            if not ours:
                del self._sockets[fd]
        return list(self._sockets)

    def connections_live(self) -> bool:
        """Whether no open connection has been ended or lost. False where the system cannot tell."""
        return all(_tcp_info(fd)[:1] == bytes([_TCP_ESTABLISHED]) for fd in self._open_sockets())

    def _drop_if_silent(self, stream: _Stream) -> None:
        """After a time-out: end the connection if nothing at all came on it for half as long, so that others leave."""
        fd: int = stream.getinfo(pycurl.ACTIVESOCKET)
        if fd not in self._open_sockets():
            return
        info = _tcp_info(fd)
        if len(info) < _TCP_INFO_LAST_DATA_RECEIVED + 4:
            return
        (silent_ms,) = struct.unpack_from("I", info, _TCP_INFO_LAST_DATA_RECEIVED)
        if silent_ms >= self.timeout_s * 1000 / 2:
            with _borrowed(fd) as connection, contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def _borrowed(fd: int) -> Iterator[socket.socket]:
    """libcurl's socket as Python's, without owning it."""
    borrowed = socket.socket(fileno=fd)
    try:
        yield borrowed
    finally:
        borrowed.detach()


def _tcp_info(fd: int) -> bytes:
    """Linux's `struct tcp_info` of a socket; empty where there is none."""
    if not hasattr(socket, "TCP_INFO"):
        return b""
    with _borrowed(fd) as connection, contextlib.suppress(OSError):
        return connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    return b""


def _origin(url: str) -> str:
    """Scheme, host and port. The rest may hold a device token, which no log may show."""
    return "/".join(url.split("/", 3)[:3])


_SYSTEM_CA_FILES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")


def ca_bundle(ca_file: str) -> str:
    """`ca_file`, or the system's bundle, which a libcurl from a wheel does not always find."""
    if ca_file:
        return ca_file
    candidates = (ssl.get_default_verify_paths().cafile, *_SYSTEM_CA_FILES)
    return next((path for path in candidates if path and Path(path).exists()), "")
