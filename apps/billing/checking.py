"""Whether the ledger equals the messages: every figure is counted once more from what it stands for.

Messages and campaigns lie above this app. They say what they hold of an application through `register_count`.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction

from apps.billing.models import MessageQuota
from apps.tenants.models import Application
from automata_signal.time_limits import limit_statements

log = logging.getLogger(__name__)

CHECK_MAX_S = 3_600


class Held(NamedTuple):
    """What an app holds of a channel."""

    sent: int = 0
    """Messages that a provider took."""
    reserved: int = 0
    """Messages that are reserved and open, made or not."""

    def plus(self, other: Held) -> Held:
        return Held(self.sent + other.sent, self.reserved + other.reserved)


Count = Callable[[UUID], Mapping[str, Held]]
"""What an app holds of an application, by channel."""
_counts: list[Count] = []


def register_count(count: Count) -> None:
    """Ask `count` in every check from now on; registering twice is registering once."""
    if count not in _counts:
        _counts.append(count)


class Difference(NamedTuple):
    application: str
    what: str
    expected: Any
    """By messages, campaigns and entries."""
    found: Any
    """What the counter or balance says."""

    def __str__(self) -> str:
        return f"{self.application}: {self.what} is {self.found}, and should be {self.expected}"


def differences(application: Application) -> list[Difference]:
    """Everything that does not agree, as of one moment; sending goes on meanwhile.

    Reads all of the application's messages, by `message_by_application`: some seconds for a million.
    """
    is_alone = not connection.in_atomic_block
    with transaction.atomic():
        if is_alone:
            with connection.cursor() as cursor:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            limit_statements(CHECK_MAX_S)
        return [*_of_quotas(application), *_of_ledger(application)]


def _of_quotas(application: Application) -> Iterator[Difference]:
    held: dict[str, Held] = defaultdict(Held)
    for count in _counts:
        for channel_type, more in count(application.pk).items():
            held[channel_type] = held[channel_type].plus(more)
    posted = _posted(application)
    quotas = {row.channel_type: row for row in MessageQuota.objects.for_application(application)}
    for channel_type in sorted(held.keys() | posted.keys() | quotas.keys()):
        quota, of_channel = quotas.get(channel_type), held[channel_type]
        figures = {
            "messages sent": (of_channel.sent, quota.sent_total - quota.forgotten_total if quota else 0),
            "messages reserved": (of_channel.reserved, quota.reserved if quota else 0),
            "messages in the ledger": (posted.get(channel_type, 0), quota.posted_total if quota else 0),
        }
        for what, (expected, found) in figures.items():
            if expected != found:
                yield Difference(str(application), f"{channel_type}: {what}", expected, found)


def _posted(application: Application) -> dict[str, int]:
    """Messages in the ledger by channel. Index: `ledger_by_application`."""
    return dict(
        _rows(
            "SELECT channel_type, sum(quantity)::bigint FROM billing_ledgertransaction"
            " WHERE application_id = %s AND kind = 'usage' GROUP BY 1",
            application,
        )
    )


_BALANCES = """
    SELECT a.kind, a.channel_type, coalesce(sum(e.amount), 0), a.balance
    FROM billing_ledgeraccount a LEFT JOIN billing_ledgerentry e ON e.account_id = a.id
    WHERE a.application_id = %s GROUP BY a.id HAVING coalesce(sum(e.amount), 0) <> a.balance ORDER BY 1, 2
"""
_UNBALANCED = """
    SELECT t.id, sum(e.amount) FROM billing_ledgertransaction t JOIN billing_ledgerentry e ON e.transaction_id = t.id
    WHERE t.application_id = %s GROUP BY t.id
    HAVING sum(e.amount) <> 0 OR count(DISTINCT e.amount_currency) > 1 ORDER BY 1
"""
_WRONG_PRICE = """
    SELECT t.id, t.quantity * t.unit_price, coalesce(sum(e.amount), 0)
    FROM billing_ledgertransaction t
         LEFT JOIN billing_ledgerentry e ON e.transaction_id = t.id AND e.amount > 0
    WHERE t.application_id = %s AND t.kind = 'usage'
    GROUP BY t.id HAVING t.quantity * t.unit_price <> coalesce(sum(e.amount), 0) ORDER BY 1
"""


def _of_ledger(application: Application) -> Iterator[Difference]:
    name = str(application)
    for kind, channel_type, expected, found in _rows(_BALANCES, application):
        yield Difference(name, f"the balance of {' · '.join(filter(None, (kind, channel_type)))}", expected, found)
    for key, total in _rows(_UNBALANCED, application):
        yield Difference(name, f"the sum of transaction {key}", 0, total)
    for key, expected, found in _rows(_WRONG_PRICE, application):
        yield Difference(name, f"the usage in transaction {key}", expected, found)


def _rows(sql: str, application: Application) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, [application.pk])
        rows: list[tuple[Any, ...]] = cursor.fetchall()
    return rows


def report_differences() -> int:
    """`differences` of every application, each as an error in the log; how many."""
    if not settings.BILLING:
        return 0
    found = [
        difference for application in Application.objects.order_by("id") for difference in differences(application)
    ]
    for difference in found:
        log.error("the ledger does not equal the messages: manage.py check_ledger", extra={"cause": str(difference)})
    return len(found)
