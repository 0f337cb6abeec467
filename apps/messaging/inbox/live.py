"""`GET /api/v1/in-app/stream`: an inbox as server-sent events, by the process `live` (ASGI).

A stream is a coroutine and a queue. No database connection stands behind it: what it asks PostgreSQL when it opens,
resumes or is looked after goes through `LIVE_DATABASE_THREADS` threads that all streams share. What comes to an inbox
comes through Redis (`hub`), as the bytes that are written.

    ready    once, when the stream is open: {"unread": 3}
    message  a message came, as `GET in-app/messages` shows it; with an id to resume from
    inbox    the same for a device that is not to display it (version, language)
    state    another device has read or put away: {"change": "read", "ids": […], "unread": 2}
    bye      the stream ends: {"reason": "restart"}; come back after `retry`

Everything is delivered at least once: a client that comes back with `Last-Event-ID` may get again what it has.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import io
import logging
import random
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import partial
from types import FrameType
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

from django.conf import settings
from django.core.handlers.asgi import ASGIRequest
from django.db import Error as DatabaseLayerError
from django.db import close_old_connections
from psycopg_pool import PoolTimeout

from apps.messaging.inbox import api, selectors
from apps.messaging.inbox.hub import Hub, Stream
from apps.messaging.inbox.shown import event
from apps.subscriptions.models import Subscription
from apps.tenants.access import Caller, client_address, network_of
from apps.tenants.models import ApiKey
from automata_signal import metrics
from automata_signal.envelope import error_body, written

log = logging.getLogger(__name__)

PATH = "/api/v1/in-app/stream"
RETRY_MS = 3_000
RESTART_RETRY_MS = (1_000, 10_000)
"""When clients come back after a restart: not all at once."""
TICK_S = 0.25
GOODBYE_S = 5.0
"""How long a process that is to stop waits for its streams to end."""
CHECK_SLICE = 1_000

DATABASE_AWAY = (DatabaseLayerError, PoolTimeout)

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
T = TypeVar("T")

_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # nginx would gather events
]


class Refusal(NamedTuple):
    """An answer in place of a stream."""

    status: int
    body: bytes
    headers: Sequence[tuple[str, str]] = ()


class Opening(NamedTuple):
    """What the database says of a stream that may be opened."""

    subscription_id: UUID
    owner_id: UUID
    application_id: UUID
    key_id: UUID | None
    handle_version: int
    app_version: str
    language: str
    network: str
    since: datetime | None
    """From when it may have missed something; None: it was never here."""
    seen_since: datetime
    headers: Sequence[tuple[str, str]]


class Live:
    """The ASGI application of the streams; one in a process."""

    def __init__(self) -> None:
        self._hub = Hub(self._catch_up)
        self._streams: set[Stream] = set()
        self._of_subscription: Counter[UUID] = Counter()
        self._of_network: Counter[str] = Counter()
        self._applications: dict[UUID, UUID] = {}
        """Subscription → application, of those that have a stream."""
        self._threads: ThreadPoolExecutor | None = None
        self._background: list[asyncio.Task[Any]] = []
        self._is_stopping = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._start()
        stream: Stream | None = None
        try:
            opening = await self._in_database(_authorise, scope)
            if isinstance(opening, Opening):
                opening = self._full(opening) or opening
            if isinstance(opening, Refusal):
                return await _refuse(send, opening)
            stream = self._opened(opening)
            await self._hub.join(stream)
            unread, missed = await self._in_database(_what_was_missed, opening)
        except DATABASE_AWAY as error:
            log.warning("a stream could not be opened: the database refused", extra={"cause": str(error)})
            await self._give_up(stream, send, _unavailable("The database does not answer; try again in a moment."))
        except Exception:
            log.exception("a stream could not be opened")
            body = written(error_body("INTERNAL", "Something failed on our side; it was logged."))
            await self._give_up(stream, send, Refusal(500, body))
        except asyncio.CancelledError:  # the client has gone already
            await self._give_up(stream, None, None)
            raise
        else:
            try:
                await self._write(stream, opening, unread, missed, receive, send)
            except asyncio.CancelledError:
                if not stream.end_reason:  # not cut off by us
                    raise
            finally:
                await self._closed(stream)

    async def _give_up(self, stream: Stream | None, send: Send | None, refusal: Refusal | None) -> None:
        """What was begun for a stream that is not opened after all."""
        if stream is not None:
            stream.end_reason = stream.end_reason or "error"
            await self._closed(stream)
        if send is not None and refusal is not None:
            await _refuse(send, refusal)

    # --- Streams ---------------------------------------------------------------------------------------------------

    def _full(self, opening: Opening) -> Refusal | None:
        """A refusal if there is no room; the oldest stream of a subscription makes room for its newest."""
        if self._is_stopping:
            return _unavailable("This process is about to stop; come back.")
        if len(self._streams) >= settings.LIVE_CONNECTIONS_MAX:
            return _unavailable("There are as many streams as this process serves; try again in a moment.")
        if self._of_network[opening.network] >= settings.LIVE_CONNECTIONS_PER_ADDRESS:
            body = written(error_body("RATE_LIMITED", "There are too many streams from this address."))
            return Refusal(429, body, [("Retry-After", "30")])
        if self._of_subscription[opening.subscription_id] >= settings.LIVE_CONNECTIONS_PER_SUBSCRIPTION:
            own = [one for one in self._streams if one.subscription_id == opening.subscription_id]
            if going_on := [one for one in own if not one.end_reason]:
                min(going_on, key=lambda one: one.opened_at).end("replaced")
        return None

    def _opened(self, opening: Opening) -> Stream:
        stream = Stream(
            subscription_id=opening.subscription_id,
            owner_id=opening.owner_id,
            key_id=opening.key_id,
            handle_version=opening.handle_version,
            app_version=opening.app_version,
            language=opening.language,
            network=opening.network,
        )
        stream.task = asyncio.current_task()
        self._streams.add(stream)
        self._of_subscription[stream.subscription_id] += 1
        self._of_network[stream.network] += 1
        self._applications[stream.subscription_id] = opening.application_id
        metrics.LIVE_CONNECTIONS.inc()
        return stream

    async def _closed(self, stream: Stream) -> None:
        self._streams.discard(stream)
        counters: Sequence[tuple[Counter[Any], Any]] = (
            (self._of_subscription, stream.subscription_id),
            (self._of_network, stream.network),
        )
        for counter, key in counters:
            counter[key] -= 1
            if counter[key] <= 0:
                del counter[key]
        if stream.subscription_id not in self._of_subscription:
            self._applications.pop(stream.subscription_id, None)
        metrics.LIVE_CONNECTIONS.dec()
        metrics.live_ended(stream.end_reason or "client")
        await self._hub.leave(stream)

    async def _write(
        self, stream: Stream, opening: Opening, unread: int, missed: Iterable[bytes], receive: Receive, send: Send
    ) -> None:
        """The stream itself, until its client goes or it is told to end."""
        headers = [*_HEADERS, *((name.lower().encode(), value.encode()) for name, value in opening.headers)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        first = b"retry: %d\n\n%s" % (RETRY_MS, event("ready", {"unread": unread}))
        stream.begin([first, *(stream.as_written(published) for published in missed)])
        watcher = asyncio.ensure_future(_until_gone(stream, receive))
        try:
            while True:
                await stream.wakeup.wait()
                stream.wakeup.clear()
                if stream.frames:
                    body = b"".join(stream.frames)
                    stream.frames.clear()
                    stream.quiet_since = stream.sending_since = time.monotonic()
                    await send({"type": "http.response.body", "body": body, "more_body": True})
                    stream.sending_since = None
                elif stream.end_reason:
                    break
                if stream.end_reason:
                    stream.wakeup.set()
            if stream.end_reason != "gone":
                await send({"type": "http.response.body", "body": _goodbye(stream.end_reason), "more_body": False})
        finally:
            watcher.cancel()

    # --- Looking after them ----------------------------------------------------------------------------------------

    def _start(self) -> None:
        """With the first request: there is no event loop before."""
        if self._threads is None:
            self._threads = ThreadPoolExecutor(settings.LIVE_DATABASE_THREADS, thread_name_prefix="live-db")
            self._background = [asyncio.ensure_future(self._hub.run()), asyncio.ensure_future(self._tend())]
            with contextlib.suppress(ValueError):  # not in the main thread: somebody embeds us
                self._stop_on_sigterm()

    def _stop_on_sigterm(self) -> None:
        """Beside what the server does: its own handler hangs on the event loop and is called as well."""
        loop = asyncio.get_running_loop()

        def on_sigterm(_signum: int, _frame: FrameType | None) -> None:
            loop.call_soon_threadsafe(self.stop)

        signal.signal(signal.SIGTERM, on_sigterm)

    def stop(self) -> None:
        """End all streams, each with a time to come back of its own."""
        if not self._is_stopping:
            self._is_stopping = True
            log.info("streams are ended: %d", len(self._streams))
            for stream in list(self._streams):
                stream.end("restart")

    async def _tend(self) -> None:
        """Heartbeats, a look at who may still listen, and figures."""
        check_at = time.monotonic() + settings.LIVE_CHECK_S
        while True:
            await asyncio.sleep(TICK_S)
            now = time.monotonic()
            for stream in list(self._streams):
                if stream.sending_since is not None and stream.sending_since < now - settings.LIVE_HEARTBEAT_S:
                    stream.cut("slow")  # it has not taken for so long what is being written
                elif stream.quiet_since < now - stream.patience_s:
                    stream.beat()
            metrics.LIVE_EVENTS.inc(self._hub.take_delivered())
            if now >= check_at:
                await self._check()
                check_at = time.monotonic() + settings.LIVE_CHECK_S

    async def _check(self) -> None:
        """End streams of who has signed out or in, ended the subscription, or lost the key or the handle."""
        streams = [stream for stream in self._streams if not stream.end_reason]
        for start in range(0, len(streams), CHECK_SLICE):
            of_slice = streams[start : start + CHECK_SLICE]
            keys = {stream.key_id for stream in of_slice if stream.key_id is not None}
            try:
                allowed = await self._in_database(_allowed, {one.subscription_id for one in of_slice}, keys)
            except DATABASE_AWAY as error:
                log.warning("streams could not be looked at", extra={"cause": str(error)})
                return
            for stream in of_slice:
                if not allowed.lets(stream):
                    stream.end("changed")

    async def _catch_up(self, streams: Sequence[Stream], since: datetime) -> None:
        """Give streams what came while Redis was away."""
        by_application: dict[UUID, list[Stream]] = {}
        for stream in streams:
            if (application_id := self._applications.get(stream.subscription_id)) is not None:
                by_application.setdefault(application_id, []).append(stream)
        for application_id, of_application in by_application.items():
            for start in range(0, len(of_application), CHECK_SLICE):
                of_slice = of_application[start : start + CHECK_SLICE]
                owners = list({stream.owner_id for stream in of_slice})
                frames = await self._in_database(selectors.frames_since, application_id, owners, since)
                for stream in of_slice:
                    for published in frames.get(stream.owner_id, ()):
                        stream.put(published)

    async def _in_database(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call it in one of the few threads that have a database connection."""
        context = contextvars.copy_context()
        call = partial(context.run, _with_connection, function, *arguments)
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)


async def _until_gone(stream: Stream, receive: Receive) -> None:
    """Notice that the client has gone; what it sends after its request means nothing."""
    while (await receive())["type"] != "http.disconnect":
        pass
    stream.end_reason = stream.end_reason or "gone"
    stream.frames.clear()
    stream.wakeup.set()


def _goodbye(reason: str) -> bytes:
    least, most = RESTART_RETRY_MS
    return b"retry: %d\n%s" % (random.randint(least, most), event("bye", {"reason": reason}))


async def _refuse(send: Send, refusal: Refusal) -> None:
    headers = [(name.lower().encode(), value.encode()) for name, value in refusal.headers]
    headers += [(b"content-type", b"application/json"), (b"content-length", str(len(refusal.body)).encode())]
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": refusal.body})


def _unavailable(message: str) -> Refusal:
    return Refusal(503, written(error_body("UNAVAILABLE", message)), [("Retry-After", "5")])


# --- In a thread, with a database connection -----------------------------------------------------------------------


def _with_connection(function: Callable[..., T], *arguments: Any) -> T:
    """A connection that is given back to the pool afterwards; where there is no pool the thread keeps it."""
    close_old_connections()
    try:
        return function(*arguments)
    finally:
        close_old_connections()


_view = api.StreamView.as_view(is_live=True)


def _authorise(scope: Scope) -> Opening | Refusal:
    """What the API's own view says to the request: key or ticket, handle, rates, errors in the envelope."""
    request = ASGIRequest(scope, io.BytesIO())
    response = _view(request)
    opened: tuple[Subscription, Caller] | None = getattr(response, "opened", None)
    headers = [(name, value) for name, value in response.items() if name.lower() not in ("content-type", "vary")]
    if opened is None:
        return Refusal(response.status_code, response.render().content, headers)
    subscription, caller = opened
    last_event_id = request.headers.get("Last-Event-ID") or request.GET.get("last_event_id", "")
    return Opening(
        subscription_id=subscription.pk,
        owner_id=selectors.owner_of(subscription),
        application_id=subscription.application_id,
        key_id=caller.key.pk if caller.key else None,
        handle_version=subscription.handle_version,
        app_version=subscription.app_version or "",
        language=subscription.device_language or "",
        network=network_of(client_address(request)),
        since=selectors.resumed_from(last_event_id),
        seen_since=selectors.seen_since(subscription),
        headers=headers,
    )


def _what_was_missed(opening: Opening) -> tuple[int, list[bytes]]:
    """How much is unread, and what came since the client was here last."""
    unread = selectors.unread_count(opening.application_id, opening.owner_id, since=opening.seen_since)
    if opening.since is None:
        return unread, []
    since = max(opening.since, opening.seen_since)
    frames = selectors.frames_since(opening.application_id, [opening.owner_id], since)
    return unread, frames.get(opening.owner_id, [])


class Allowed(NamedTuple):
    """Who may listen now."""

    owners: dict[UUID, tuple[UUID, int]]
    """Of each subscription that still receives: whose inbox it opens, and the version of its handle."""
    keys: frozenset[UUID]

    def lets(self, stream: Stream) -> bool:
        is_same = self.owners.get(stream.subscription_id) == (stream.owner_id, stream.handle_version)
        return is_same and (stream.key_id is None or stream.key_id in self.keys)


def _allowed(subscription_ids: Iterable[UUID], key_ids: Iterable[UUID]) -> Allowed:
    rows = Subscription.objects.filter(pk__in=list(subscription_ids), subscription_status__gt=0)
    owners = {
        pk: (user_id or pk, version) for pk, user_id, version in rows.values_list("pk", "user_id", "handle_version")
    }
    keys = ApiKey.objects.select_related("application").filter(pk__in=list(key_ids), application__is_active=True)
    return Allowed(owners, frozenset(key.pk for key in keys if key.is_usable))


live = Live()
