"""The questions of the API and the console, each with its whole answer as JSON has it.

An answer is read from the replica where there is one, kept for a while (`automata_signal.caches`: longer for what is
long over) and says of when its figures are (`as_of`). Rates and changes are fractions, None where there is nothing to
divide by; amounts of money are texts, so that no digit is lost.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.utils import timezone

from apps.analytics import selectors
from apps.analytics.as_json import (
    COUNTED,
    Answer,
    change,
    compared,
    figures,
    histogram,
    moment_text,
    period_of,
    plain,
    rows_of,
    tally_of,
    weeks,
)
from apps.analytics.selectors import Figures, Period, Which
from apps.analytics.selectors.messages import ALL
from apps.tenants.models import Application
from automata_signal import replica
from automata_signal.caches import CLOSED_STATISTICS, STATISTICS, cached

SETTLED_AFTER = timedelta(days=2)
"""After so long a period is taken for over: what still comes in, late receipts, is little."""
WEEK = "week"


@dataclass(frozen=True, slots=True)
class Asked:
    """Of whom, when and which messages."""

    application: Application
    period: Period
    which: Which = ALL

    @property
    def before(self) -> Period:
        """As long, just before; by the local clock where whole days are asked for."""
        since, until, zone = self.period.since, self.period.until, self.period.zone
        local = [moment.astimezone(zone).replace(tzinfo=None) for moment in (since, until)]
        earlier = (local[0] - (local[1] - local[0])).replace(tzinfo=zone).astimezone(UTC)
        return Period(since=earlier, until=since, zone=zone)

    def key(self) -> dict[str, Any]:
        return {
            "since": self.period.since.isoformat(),
            "until": self.period.until.isoformat(),
            "zone": self.period.zone.key,
            **asdict(self.which),
        }


def _answered(question: str, asked: Asked, work: Callable[[str], Answer], **options: Any) -> Answer:
    """What `work` (alias → answer) gives, with its period and `as_of`; kept as the table of the cache has it."""

    def make() -> Answer:
        def read(using: str) -> Answer:
            filled_at = selectors.freshness(using=using).filled_at
            return {"period": period_of(asked.period), "as_of": moment_text(filled_at), **work(using)}

        return replica.read(read)

    is_settled = asked.period.until < timezone.now() - SETTLED_AFTER
    policy = CLOSED_STATISTICS if is_settled else STATISTICS
    return cached(policy, asked.application.pk, {"question": question, **asked.key(), **options}, make)


# --- Messages --------------------------------------------------------------------------------------------------------


def overview(asked: Asked) -> Answer:
    """Totals with their rates, against the period before, and why messages failed or were put off."""

    def work(using: str) -> Answer:
        same: Any = {"application": asked.application, "which": asked.which, "using": using}
        now = selectors.message_totals(period=asked.period, **same)
        before = selectors.message_totals(period=asked.before, **same)
        return {
            "messages": figures(now),
            "before": {"period": period_of(asked.before), **figures(before)},
            "change": {name: change(getattr(now, name), getattr(before, name)) for name in COUNTED},
            "failures": rows_of(selectors.failures_by_reason(period=asked.period, **same)),
            "put_off": rows_of(selectors.put_off_by_reason(period=asked.period, **same)),
        }

    return _answered("overview", asked, work)


def series(asked: Asked, interval: str) -> Answer:
    """Totals by hour, day or week, without gaps. A week begins on Monday; the first may be cut by the period."""

    def work(using: str) -> Answer:
        step = selectors.Step.HOUR if interval == "hour" else selectors.Step.DAY
        points = selectors.message_series(
            application=asked.application, period=asked.period, step=step, which=asked.which, using=using
        )
        whole = [(p.begins, p.figures) for p in points]
        if interval == WEEK:
            whole = [(begins, sum(parts, Figures())) for begins, parts in weeks(whole)]
        return {
            "interval": interval,
            "items": [{"begins": _local(begins, asked), **figures(total)} for begins, total in whole],
        }

    return _answered("series", asked, work, interval=interval)


def breakdown(asked: Asked, by: str) -> Answer:
    """Totals by channel, hour of the day or an attribute of the device. Raises `ValidationFailed`."""

    def work(using: str) -> Answer:
        common: Any = {"application": asked.application, "period": asked.period, "using": using}
        if by == "channel":
            groups = selectors.by_channel(which=asked.which, **common)
        elif by == "hour_of_day":
            groups = selectors.by_hour_of_day(which=asked.which, **common)
        else:
            groups = selectors.by_dimension(dimension=by, channel_type=asked.which.channel_type, **common)
        return {"by": by, "items": [{"key": group.key, **figures(group.figures)} for group in groups]}

    return _answered("breakdown", asked, work, by=by)


def distribution(asked: Asked, wait: str) -> Answer:
    """How long after sending receipts came, or opens: percentiles, and a histogram. In seconds."""

    def work(using: str) -> Answer:
        found = selectors.waiting_times(
            application=asked.application, period=asked.period, wait=wait, which=asked.which, using=using
        )
        return {"wait": wait, "unit": "s", **histogram(found)}

    return _answered("distribution", asked, work, wait=wait)


def campaigns(asked: Asked, ids: Sequence[UUID] | None = None) -> Answer:
    """Campaigns beside each other, those that sent most first; `id` is null for messages without one."""

    def work(using: str) -> Answer:
        found = selectors.by_campaign(
            application=asked.application,
            period=asked.period,
            campaign_ids=ids,
            channel_type=asked.which.channel_type,
            using=using,
        )
        return {"items": compared(found)}

    return _answered("campaigns", asked, work, ids=sorted(map(str, ids or ())))


def templates(asked: Asked, ids: Sequence[UUID] | None = None) -> Answer:
    """Templates beside each other, those that sent most first; `id` is null for messages without one."""

    def work(using: str) -> Answer:
        found = selectors.by_template(
            application=asked.application,
            period=asked.period,
            template_ids=ids,
            channel_type=asked.which.channel_type,
            using=using,
        )
        return {"items": compared(found)}

    return _answered("templates", asked, work, ids=sorted(map(str, ids or ())))


def beside_all(asked: Asked) -> Answer:
    """The figures of one campaign or template, and of all messages of the application in the same period."""

    def work(using: str) -> Answer:
        same: Any = {"application": asked.application, "period": asked.period, "using": using}
        return {
            "own": figures(selectors.message_totals(which=asked.which, **same)),
            "all": figures(selectors.message_totals(**same)),
        }

    return _answered("beside_all", asked, work)


# --- Who can be reached ----------------------------------------------------------------------------------------------


def subscriptions(asked: Asked, interval: str, subscription_type: str = "") -> Answer:
    """Gained and lost, by type, by reason and by source; by hour, day or week."""

    def work(using: str) -> Answer:
        common: Any = {
            "application": asked.application,
            "subscription_type": subscription_type,
            "using": using,
        }
        now = selectors.subscription_changes(period=asked.period, **common)
        before = selectors.subscription_changes(period=asked.before, **common)
        step = selectors.Step.HOUR if interval == "hour" else selectors.Step.DAY
        points = [(p.begins, p) for p in selectors.subscription_series(period=asked.period, step=step, **common)]
        grouped = weeks(points) if interval == WEEK else [(begins, [point]) for begins, point in points]
        counted = ("registered", "gained", "lost")
        return {
            "totals": {**{name: getattr(now, name) for name in counted}, "net": now.net},
            "before": {**{name: getattr(before, name) for name in counted}, "net": before.net},
            "by_type": rows_of(now.by_type),
            "lost_by_reason": rows_of(now.lost_by_reason),
            "gained_by_source": rows_of(now.gained_by_source),
            "interval": interval,
            "items": [
                {
                    "begins": _local(begins, asked),
                    **{name: sum(getattr(part, name) for part in parts) for name in counted},
                }
                for begins, parts in grouped
            ],
        }

    return _answered("subscriptions", asked, work, interval=interval, subscription_type=subscription_type)


def active_users(asked: Asked) -> Answer:
    """Users, and subscriptions by type: how many there were at the end of each day, and how many of them active."""

    def work(using: str) -> Answer:
        points = selectors.active_users(application=asked.application, period=asked.period, using=using)
        return {
            "items": [
                {
                    "day": point.day.isoformat(),
                    "users": point.users._asdict(),
                    "subscriptions": {kind: audience._asdict() for kind, audience in point.subscriptions.items()},
                }
                for point in points
            ]
        }

    return _answered("active_users", asked, work)


# --- Money and the SDK -----------------------------------------------------------------------------------------------


def costs(asked: Asked, interval: str) -> Answer:
    """What messages of the period cost, by channel and by day; and the quotas as they are now."""

    def work(using: str) -> Answer:
        common: Any = {"application": asked.application, "using": using}
        now = selectors.costs(period=asked.period, **common)
        before = selectors.costs(period=asked.before, **common)
        step = selectors.Step.HOUR if interval == "hour" else selectors.Step.DAY
        points = [(p.begins, p) for p in selectors.cost_series(period=asked.period, step=step, **common)]
        grouped = weeks(points) if interval == WEEK else [(begins, [point]) for begins, point in points]
        return {
            "channels": rows_of(now),
            "before": rows_of(before),
            "quotas": rows_of(selectors.quota_usage(**common)),
            "interval": interval,
            "items": [
                {
                    "begins": _local(begins, asked),
                    "messages": sum(part.messages for part in parts),
                    "amount": plain(sum((part.amount for part in parts), start=Decimal(0))),
                }
                for begins, parts in grouped
            ],
        }

    return _answered("costs", asked, work, interval=interval)


def sdk(asked: Asked, platform: str = "") -> Answer:
    """What SDKs report of themselves: initialisation, registration, identification, and errors."""

    def work(using: str) -> Answer:
        found = selectors.sdk_figures(
            application=asked.application, period=asked.period, platform=platform, using=using
        )
        return {
            "initialisations": {"unit": "ms", **histogram(found.initialisations)},
            "registrations": tally_of(found.registrations),
            "identifications": tally_of(found.identifications),
            "client_errors": rows_of(found.client_errors),
            "items": [
                {
                    "platform": version.platform,
                    "sdk_version": version.sdk_version,
                    "initialisations": version.initialisations,
                    "registrations": tally_of(version.registrations),
                    "identifications": tally_of(version.identifications),
                    "client_errors": version.client_errors,
                }
                for version in found.by_version
            ],
        }

    return _answered("sdk", asked, work, platform=platform)


def _local(moment: datetime, asked: Asked) -> str:
    """With the offset of the time zone that was asked for, so that the day is the one that is meant."""
    return moment.astimezone(asked.period.zone).isoformat()
