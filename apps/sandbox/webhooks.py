"""Webhooks of the stand-ins: posts in jobs, each job's posts one after the other, retried, repeated, logged.

A gateway's delivery reports go out over a few connections at once, so reports of different messages may overtake each
other, as in life; posts of one job do not, unless `report_order` is reversed.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from apps.sandbox.provider import Settings

Headers = tuple[tuple[str, str], ...]
Render = Callable[[int], tuple[Headers, bytes]]
TIMEOUT_S = 10.0


@dataclass
class GatewaySettings(Settings):
    """The settings of a gateway's stand-in: those of all, and how it reports."""

    reports: str = "send"  # send; hold: nothing advances until released; off: messages advance, nothing is posted
    report_delay_ms: float = 0.0  # from the answer until messages are done
    report_order: str = "arrival"  # or reversed: later messages and later states first
    report_repeats: int = 0  # each post again so many times
    report_attempts: int = 3
    report_retry_ms: float = 100.0
    report_batch: int = 100  # messages in one post, of gateways that report several
    report_connections: int = 4

    _CHOICES = {
        **Settings._CHOICES,
        "reports": ("send", "hold", "off"),
        "report_order": ("arrival", "reversed"),
    }  # fmt: skip


class Post(NamedTuple):
    """One webhook. `render` gives headers and body for an attempt, counted from 0."""

    url: str
    event: str
    render: Render


Job = list[Post]


class Webhooks:
    """Sends jobs in the background and keeps a log of the last posts."""

    def __init__(self, settings: GatewaySettings, *, ca_file: Path | None = None, log_size: int = 10_000) -> None:
        self._settings = settings
        self._ca_file = ca_file
        self._jobs: deque[Job] = deque()
        self._workers: set[asyncio.Task[None]] = set()
        self._context: ssl.SSLContext | None = None
        self.log: deque[dict[str, Any]] = deque(maxlen=log_size)
        self.posts = 0
        self.delivered = 0

    @property
    def pending(self) -> int:
        """Jobs that are waiting or under way."""
        return len(self._jobs) + len(self._workers)

    def clear(self) -> None:
        """Forget what waits and what was logged."""
        self._jobs.clear()
        self.log.clear()
        self.posts = self.delivered = 0

    def send(self, jobs: list[Job]) -> None:
        """Queue jobs; applies the order and the repeats of the settings."""
        settings = self._settings
        if settings.report_order == "reversed":
            jobs = [job[::-1] for job in reversed(jobs)]
        for _ in range(1 + settings.report_repeats):
            self._jobs.extend(jobs)
        while self._jobs and len(self._workers) < min(settings.report_connections, len(self._jobs)):
            worker = asyncio.get_running_loop().create_task(self._work())
            self._workers.add(worker)
            worker.add_done_callback(self._workers.discard)

    async def _work(self) -> None:
        channel = _Channel(self._tls)
        try:
            while self._jobs:
                for post in self._jobs.popleft():
                    await self._post(channel, post)
        finally:
            channel.close()

    async def _post(self, channel: _Channel, post: Post) -> None:
        for attempt in range(max(1, self._settings.report_attempts)):
            if attempt:
                await asyncio.sleep(self._settings.report_retry_ms / 1000)
            headers, body = post.render(attempt)
            status, error = 0, ""
            try:
                status = await asyncio.wait_for(channel.post(post.url, headers, body), TIMEOUT_S)
            except (OSError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError) as fault:
                channel.close()
                error = str(fault) or type(fault).__name__
            self.posts += 1
            self.log.append(
                {"at": time.time(), "url": post.url, "event": post.event, "attempt": attempt, "status": status,
                 "error": error, "headers": dict(headers), "body": body.decode("utf-8", "replace")}
            )  # fmt: skip
            if 200 <= status < 300:
                self.delivered += 1
                return

    def _tls(self) -> ssl.SSLContext:
        if self._context is None:
            self._context = ssl.create_default_context()
            if self._ca_file is not None:
                self._context.load_verify_locations(self._ca_file)
        return self._context


class _Channel:
    """A connection that is kept for posts to the same place. HTTP/1.1, answers with Content-Length or chunked."""

    def __init__(self, tls: Callable[[], ssl.SSLContext]) -> None:
        self._tls = tls
        self._place: tuple[str, str, int] | None = None
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
        self._place = self._streams = None

    async def post(self, url: str, headers: Headers, body: bytes) -> int:
        """The status of the answer. Raises OSError, ValueError and what asyncio's streams raise."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"not an address: {url}")
        place = (parts.scheme, parts.hostname, parts.port or (443 if parts.scheme == "https" else 80))
        kept = self._place == place
        if not kept:
            await self._open(place)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        lines = [f"POST {path} HTTP/1.1", f"Host: {parts.netloc.rpartition('@')[2]}", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in headers]
        request = "\r\n".join(lines).encode() + b"\r\n\r\n" + body
        try:
            return await self._exchange(request)
        except (ConnectionError, asyncio.IncompleteReadError):
            if not kept:
                raise
            await self._open(place)  # the other side had closed a connection that was idle
            return await self._exchange(request)

    async def _open(self, place: tuple[str, str, int]) -> None:
        self.close()
        scheme, host, port = place
        self._streams = await asyncio.open_connection(host, port, ssl=self._tls() if scheme == "https" else None)
        self._place = place

    async def _exchange(self, request: bytes) -> int:
        assert self._streams is not None
        reader, writer = self._streams
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        status = int(head[0].split(" ", 2)[1])
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
        if headers.get("transfer-encoding", "").lower() == "chunked":
            while size := int((await reader.readline()).split(b";")[0], 16):
                await reader.readexactly(size + 2)
            await reader.readline()
        elif "content-length" in headers:
            await reader.readexactly(int(headers["content-length"]))
        elif status not in (204, 304):
            await reader.read()
            headers["connection"] = "close"
        if headers.get("connection", "").lower() == "close":
            self.close()
        return status
