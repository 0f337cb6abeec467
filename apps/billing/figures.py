"""What Prometheus is told of quotas and the ledger: looked up when it asks (`automata_signal.figures`)."""

from __future__ import annotations

from collections.abc import Iterator

from django.db import connection
from django.utils import timezone

from automata_signal.figures import ROWS_MAX, Figure, Sample, Source, register

_USED = Figure(
    "automata_quota_used_share",
    "How much of a quota is used, 0 to 1; the fullest quotas only",
    ("application", "channel", "period"),
)
_RESERVED = Figure("automata_quota_reserved_messages", "Messages that are accepted and open, of all applications")
_UNPOSTED = Figure("automata_ledger_unposted_messages", "Messages that were sent and are not in the ledger yet")

# A row for each application and channel: the table is read as a whole. A period that is over counts from zero.
_USED_SQL = """
    SELECT application_id::text, channel_type, period, used::float8 / quota FROM (
        SELECT application_id, channel_type, 'day' AS period, daily_quota AS quota,
               CASE WHEN reset_date > %(now)s THEN daily_used ELSE 0 END AS used
        FROM billing_messagequota WHERE daily_quota > 0
        UNION ALL
        SELECT application_id, channel_type, 'month', monthly_quota,
               CASE WHEN monthly_reset_date > %(now)s THEN monthly_used ELSE 0 END
        FROM billing_messagequota WHERE monthly_quota > 0
    ) quotas
    ORDER BY 4 DESC, 1, 2, 3 LIMIT %(rows)s
"""
_SUMS_SQL = """
    SELECT COALESCE(sum(reserved), 0)::bigint, COALESCE(sum(sent_total - posted_total), 0)::bigint
    FROM billing_messagequota
"""


def _read() -> Iterator[Sample]:
    with connection.cursor() as cursor:
        cursor.execute(_USED_SQL, {"now": timezone.now(), "rows": ROWS_MAX})
        used = cursor.fetchall()
        cursor.execute(_SUMS_SQL)
        reserved, unposted = cursor.fetchone()
    for *labels, share in used:
        yield Sample(_USED, share, tuple(labels))
    yield Sample(_RESERVED, reserved)
    yield Sample(_UNPOSTED, unposted)


def register_figures() -> None:
    register(Source("quotas", (_USED, _RESERVED, _UNPOSTED), _read))
