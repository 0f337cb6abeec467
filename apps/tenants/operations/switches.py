"""Switches of the whole platform: sending at all or by a channel, imports, exports, webhooks.

Nothing is lost while one is off. What would have been done waits where it is (batches in PostgreSQL, deliveries in
their lanes, files at their checkpoint) and goes on when it is on again; only time goes by, so that a message whose time
to live ends meanwhile fails as expired.

Whoever works asks `is_on` before the next piece of work. The answer is kept in the process for `KEPT_S`, so that it
costs a look at the clock: a switch holds everywhere after that time at the latest, and within a batch that is being
sent at its next look (`dispatch.STOP_CHECK_S`).
"""

from __future__ import annotations

import threading
import time
from typing import Any, NamedTuple

from django.db import connection, transaction
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from apps.tenants.audit.services import audit
from apps.tenants.channels import ChannelType
from apps.tenants.operations.models import PlatformSwitch
from automata_signal.errors import NotFound, ValidationFailed

KEPT_S = 2.0

SENDING, IMPORTS, EXPORTS, WEBHOOKS = "sending", "imports", "exports", "webhooks"


class Kind(NamedTuple):
    """What a switch stops."""

    name: str
    title: Any
    explain: Any
    banner: Any
    """What is told on the home page while it is off."""


def channel_switch(channel_type: str) -> str:
    """The name of a channel's switch."""
    return f"{SENDING}.{channel_type}"


KINDS: dict[str, Kind] = {
    SENDING: Kind(
        SENDING,
        _("Sending"),
        _("No message of any channel leaves. What is accepted waits, and leaves when this is on again."),
        _("Sending is stopped on the whole platform. Messages are accepted and wait."),
    ),
    **{
        channel_switch(channel): Kind(
            channel_switch(channel),
            label,
            _("No message of this channel leaves. The other channels go on."),
            _("Sending by this channel is stopped on the whole platform. Its messages are accepted and wait."),
        )
        for channel, label in ChannelType.choices
    },
    IMPORTS: Kind(
        IMPORTS,
        _("Imports"),
        _("Files are taken, and wait. Those that are being imported stop at their checkpoint and go on later."),
        _("Imports are stopped on the whole platform. Files wait."),
    ),
    EXPORTS: Kind(
        EXPORTS,
        _("Exports"),
        _("Exports are accepted, and wait. Those that are being written stop at their checkpoint and go on later."),
        _("Exports are stopped on the whole platform. They wait."),
    ),
    WEBHOOKS: Kind(
        WEBHOOKS,
        _("Outgoing webhooks"),
        _("Nothing is posted to applications' servers. Deliveries are written down and wait, each in its order."),
        _("Outgoing webhooks are stopped on the whole platform. Deliveries wait."),
    ),
}

# --- Asking --------------------------------------------------------------------------------------------------------


class _Kept:
    """The names that are off, as this process last read them. One thread reads, the others go by what was read."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._off: frozenset[str] | None = None
        self._until = float("-inf")

    def off(self) -> frozenset[str]:
        """Whoever asks before anything was read waits for it: it is not taken for granted that all is on."""
        if time.monotonic() >= self._until and self._lock.acquire(blocking=self._off is None):
            try:
                names = PlatformSwitch.objects.filter(is_off=True).values_list("name", flat=True)
                self._off = frozenset(names)
                self._until = time.monotonic() + KEPT_S
            finally:
                self._lock.release()
        return self._off or frozenset()

    def forget(self) -> None:
        self._until = float("-inf")


_kept = _Kept()


def off() -> frozenset[str]:
    """Names of what is off, a few seconds old at most."""
    return _kept.off()


def is_on(name: str) -> bool:
    return name not in _kept.off()


def may_send(channel_type: str) -> bool:
    """Whether messages of this channel may leave."""
    names = _kept.off()
    return not names or (SENDING not in names and channel_switch(channel_type) not in names)


def stopped_channels() -> list[str]:
    """The channels of which nothing may leave."""
    return [channel for channel in ChannelType.values if not may_send(channel)] if _kept.off() else []


def forget() -> None:
    """The next question is read anew: this process has changed a switch."""
    _kept.forget()


# --- Turning -------------------------------------------------------------------------------------------------------


@transaction.atomic
def switch_set(*, name: str, is_on: bool, reason: str = "", request: HttpRequest | None = None) -> PlatformSwitch:
    """Turn a switch, and tell it in the audit log; the same again changes nothing.

    Raises `NotFound`, or `ValidationFailed` of `reason`: whoever stops something says why.
    """
    if name not in KINDS:
        raise NotFound(gettext("There is no such switch."))
    reason = reason.strip()
    if "\0" in reason or len(reason) > 300:
        raise ValidationFailed.of("reason", gettext("must have at most 300 characters"))
    if not is_on and not reason:
        raise ValidationFailed.of("reason", gettext("is missing: whoever comes later wants to know"))
    with connection.cursor() as cursor:  # a row that is missing cannot be locked
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended('platform switch', 0))")
    row = PlatformSwitch.objects.filter(pk=name).first() or PlatformSwitch(name=name)
    if row.is_off is not is_on:
        return row
    row.is_off, row.reason, row.changed_at = not is_on, reason, timezone.now()
    row.changed_by = str(getattr(request, "user", "") or "")[:200]
    row.save()
    changes = {"is_off": [is_on, not is_on]}
    audit(f"switch.{'on' if is_on else 'off'}", request=request, row=row, changes=changes, details={"reason": reason})
    transaction.on_commit(forget)
    return row
