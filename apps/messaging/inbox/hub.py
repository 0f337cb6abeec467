"""What a process's open streams share: one connection to Redis, which listens to the channels of their inboxes.

While Redis is away streams stay open. When it is back, the process listens again and looks in the inboxes for what came
meanwhile, all of them in one query.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import redis.asyncio as aredis
from django.conf import settings
from django.utils import timezone
from redis.exceptions import RedisError

from apps.messaging.inbox.publishing import channel_of
from apps.messaging.inbox.selectors import RESUME_MARGIN
from apps.messaging.inbox.shown import for_device
from automata_signal import metrics

log = logging.getLogger(__name__)

SUBSCRIBE_AT_ONCE = 500
CONFIRM_S = 5.0
"""How long a new stream waits until Redis has confirmed its channel; then it is opened all the same."""
SILENCE_S = 20.0
"""After so long without a word Redis is asked for one, and after as long again it is away."""
STALLED_S = 1.0
"""A write that takes longer means that the client takes nothing."""
BURST = 10
"""How many times `LIVE_QUEUE_MAX` may wait for a client that does take what it gets."""
TURN = 20
"""Events that are passed on before the streams get their turn to write."""
RECONNECT_FIRST_S, RECONNECT_MAX_S = 0.2, 5.0


class Stream:
    """An open stream: what is to be written to it, and why it is to end. It lives in the event loop alone."""

    __slots__ = (
        "app_version",
        "end_reason",
        "frames",
        "handle_version",
        "key_id",
        "language",
        "network",
        "opened_at",
        "owner_id",
        "patience_s",
        "quiet_since",
        "sending_since",
        "subscription_id",
        "task",
        "wakeup",
    )

    def __init__(
        self,
        *,
        subscription_id: UUID,
        owner_id: UUID,
        key_id: UUID | None,
        handle_version: int,
        app_version: str,
        language: str,
        network: str,
    ) -> None:
        self.subscription_id, self.owner_id, self.key_id = subscription_id, owner_id, key_id
        self.handle_version, self.app_version, self.language = handle_version, app_version, language
        self.network = network
        self.frames: deque[bytes] = deque()
        self.wakeup = asyncio.Event()
        self.opened_at = self.quiet_since = time.monotonic()
        self.sending_since: float | None = None
        self.patience_s = settings.LIVE_HEARTBEAT_S * random.uniform(0.5, 1.0)
        """After how long a silence it gets a heartbeat: not all at once after a message to everybody."""
        self.end_reason = ""
        self.task: asyncio.Task[Any] | None = None

    def put(self, published: bytes) -> None:
        """Have an event written. A stream that takes events more slowly than they come is cut off: its client comes
        back, and resumes from the inbox."""
        if self.end_reason:
            return
        waiting = len(self.frames)
        if waiting >= settings.LIVE_QUEUE_MAX and (self.is_stalled or waiting >= settings.LIVE_QUEUE_MAX * BURST):
            self.cut("slow")
            return
        self.frames.append(self.as_written(published))
        self.wakeup.set()

    @property
    def is_stalled(self) -> bool:
        return self.sending_since is not None and time.monotonic() - self.sending_since > STALLED_S

    def as_written(self, published: bytes) -> bytes:
        return for_device(published, app_version=self.app_version, language=self.language)

    def begin(self, frames: Sequence[bytes]) -> None:
        """Have these written before what has come meanwhile."""
        self.frames.extendleft(reversed(frames))
        self.wakeup.set()

    def beat(self) -> None:
        """A comment, so that proxies and phones keep the connection, and a dead one is noticed."""
        self.quiet_since = time.monotonic()
        if not self.frames:
            self.frames.append(b":\n\n")
            self.wakeup.set()

    def end(self, reason: str) -> None:
        """Say goodbye and close, after what is to be written."""
        self.end_reason = self.end_reason or reason
        self.wakeup.set()

    def cut(self, reason: str) -> None:
        """Close at once: it does not take what is written."""
        self.end_reason = self.end_reason or reason
        self.frames.clear()
        if self.task is not None:
            self.task.cancel()


CatchUp = Callable[[Sequence[Stream], datetime], Awaitable[None]]


class Hub:
    """The streams of this process by their inbox, and the connection that hears of those."""

    def __init__(self, catch_up: CatchUp) -> None:
        self._catch_up = catch_up
        self._streams: dict[bytes, set[Stream]] = {}
        self._confirmations: dict[bytes, asyncio.Future[None]] = {}
        self._connection: Any = None
        self._away_since: datetime | None = timezone.now()
        self._delivered = 0

    async def join(self, stream: Stream) -> None:
        """Listen for the stream; when it returns, nothing that is published from now on is missed, unless Redis is
        away, which is caught up with later."""
        channel = channel_of(stream.owner_id).encode()
        of_channel = self._streams.setdefault(channel, set())
        of_channel.add(stream)
        if len(of_channel) > 1 and channel not in self._confirmations:
            return
        confirmation = self._confirmations.get(channel)
        if confirmation is None and self._connection is not None:
            confirmation = self._confirmations[channel] = asyncio.get_running_loop().create_future()
            await self._command("SUBSCRIBE", channel)
        if confirmation is not None:
            await asyncio.wait([confirmation], timeout=CONFIRM_S)

    async def leave(self, stream: Stream) -> None:
        """Hear no more of the stream's inbox when it was the last of it."""
        channel = channel_of(stream.owner_id).encode()
        of_channel = self._streams.get(channel)
        if of_channel is None:
            return
        of_channel.discard(stream)
        if not of_channel:
            del self._streams[channel]
            self._confirm(channel)
            if self._connection is not None:
                await self._command("UNSUBSCRIBE", channel)

    async def run(self) -> None:
        """Listen, for as long as the process lives."""
        pause_s = RECONNECT_FIRST_S
        pool: Any = aredis.ConnectionPool.from_url(settings.REDIS_URL, protocol=2, socket_connect_timeout=2)
        while True:
            connection = pool.make_connection()
            try:
                await connection.connect()
                awaited = await self._subscribe_all(connection)
                pause_s = RECONNECT_FIRST_S
                await self._listen(connection, awaited)
            except (RedisError, OSError) as error:
                log.warning("open streams hear nothing: Redis does not answer", extra={"cause": str(error)})
            finally:
                self._connection = None
                self._away_since = self._away_since or timezone.now()
                for channel in list(self._confirmations):
                    self._confirm(channel)
                await connection.disconnect(nowait=True)
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, RECONNECT_MAX_S)

    async def _subscribe_all(self, connection: Any) -> set[bytes]:
        """Listen to every channel that there is; those that Redis has yet to confirm."""
        self._connection = connection
        channels = list(self._streams)
        for start in range(0, len(channels), SUBSCRIBE_AT_ONCE):
            await connection.send_command("SUBSCRIBE", *channels[start : start + SUBSCRIBE_AT_ONCE])
        return set(channels)

    async def _listen(self, connection: Any, awaited: set[bytes]) -> None:
        is_asked = False
        passed_on = 0
        if not awaited:
            self._is_back()
        while True:
            answer = await connection.read_response(disable_decoding=True, timeout=SILENCE_S)
            if answer is None:
                if is_asked:
                    raise ConnectionError("no word for too long")
                is_asked = True
                await self._command("PING")
                continue
            is_asked = False
            if answer[0] == b"message":
                self._pass_on(answer[1], answer[2])
                passed_on += 1
                if passed_on % TURN == 0:  # what is read already comes without waiting for anything
                    await asyncio.sleep(0)
            elif answer[0] == b"subscribe":
                self._confirm(answer[1])
                awaited.discard(answer[1])
                if not awaited and self._away_since is not None:
                    self._is_back()

    def _is_back(self) -> None:
        """Every channel is listened to: look for what came while that was not so."""
        away_since, self._away_since = self._away_since, None
        streams = [stream for of_channel in self._streams.values() for stream in of_channel]
        if away_since is not None and streams:
            task = asyncio.ensure_future(self._catch_up(streams, away_since - RESUME_MARGIN))
            task.add_done_callback(_log_failure)

    def _pass_on(self, channel: bytes, published: bytes) -> None:
        streams = self._streams.get(channel)
        if streams:
            for stream in list(streams):
                stream.put(published)
            self._delivered += len(streams)

    def take_delivered(self) -> int:
        """Events handed to streams since it was asked last."""
        delivered, self._delivered = self._delivered, 0
        return delivered

    def _confirm(self, channel: bytes) -> None:
        confirmation = self._confirmations.pop(channel, None)
        if confirmation is not None and not confirmation.done():
            confirmation.set_result(None)

    async def _command(self, *words: Any) -> None:
        """Send to Redis. If it is away the listener notices, and does it all again when it is back."""
        connection = self._connection
        try:
            await connection.send_command(*words, check_health=False)
        except (RedisError, OSError) as error:
            log.warning("Redis took no command", extra={"cause": str(error)})


def _log_failure(task: asyncio.Future[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("what came while Redis was away could not be looked up", exc_info=error)
        metrics.live_ended("error")
