"""The one judge of every fault: what must hold of rows, journals, counters and events when the dust has settled."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any

from tests.faults.stack import Failed, Stack
from tests.faults.traffic import Singles

OPEN = ("pending", "errored")
ACCEPTED = ("successful", "received", "converted")
STEPS = {
    "pending": {"successful", "errored", "failed"},
    "errored": {"pending", "successful", "failed"},
    "successful": {"received", "failed"},
    "received": {"converted"},
    "failed": set(),
    "converted": set(),
}
"""The specification's transition table, written down here once more so that the product does not judge itself."""


@dataclass(frozen=True)
class Figures:
    """What was found, for the bench."""

    messages: int
    statuses: dict[str, int]
    twice: int
    last_result_at: datetime | None


def in_flight(stack: Stack, workers: int) -> int:
    """At most so many messages were sent and not recorded by the `workers` that have just been killed.

    Each sends one batch, and the next behind it; what of them is still pending may have left.
    """
    found = stack.rows(
        """
        SELECT (SELECT count(*) FROM messaging_message m WHERE m.application_id = b.application_id
                AND m.dispatch_id = b.dispatch_id AND m.status = 'pending' AND m.id >= b.first_id
                AND m.id < overlay(b.first_id::text PLACING 'ffffff' FROM 31)::uuid) AS pending
        FROM messaging_dispatchbatch b WHERE b.state = 'claimed' ORDER BY 1 DESC LIMIT %s
        """,
        2 * workers,
    )
    return sum(row["pending"] for row in found)


def scheduled_or_final(stack: Stack) -> None:
    """Every message is final, is held under a lease, or has a time and a waiting batch. Raises `Failed`."""
    stranded = stack.rows(
        """
        SELECT m.status, b.state, count(*) AS n FROM messaging_message m
        LEFT JOIN LATERAL (
            SELECT * FROM messaging_dispatchbatch b WHERE b.dispatch_id = m.dispatch_id AND b.first_id <= m.id
            ORDER BY b.first_id DESC LIMIT 1
        ) b ON true
        WHERE m.application_id = %s AND m.status IN ('pending', 'errored')
          AND NOT coalesce(b.state = 'claimed' AND b.lease_until IS NOT NULL, false)
          AND NOT (coalesce(b.state, '') = 'waiting' AND (m.status = 'pending' OR m.retry_at >= b.due_at))
        GROUP BY 1, 2
        """,
        stack.application,
    )
    if stranded:
        raise Failed(f"messages that nobody will take up: {stranded}")


def verify(
    stack: Stack,
    *,
    campaign_id: str,
    singles: Singles,
    began_at: datetime,
    duplicates_max: int,
    failed_reasons: Collection[str] = (),
) -> Figures:
    """Raises `Failed` with the first promise that was broken."""
    sql = """
        SELECT id::text, campaign_id::text, subscription_id::text, status, error_reason, attempts,
               greatest(sent_at, failed_at) AS result_at
        FROM messaging_message
        WHERE application_id = %s AND (campaign_id = %s OR campaign_id IS NULL AND created_at >= %s)
    """  # not all by the time: the clock of a worker that makes a campaign's messages may be wrong
    messages = {row["id"]: row for row in stack.rows(sql, stack.application, campaign_id, began_at)}
    _accepted_are_kept(messages, singles)
    _each_recipient_once(stack, [m for m in messages.values() if m["campaign_id"] == campaign_id])
    _are_final(messages.values(), failed_reasons)
    taken = [(e["message_id"], e) for provider in stack.providers for e in provider.accepted()]
    twice = _providers_have_them(messages, taken, duplicates_max)
    _counters_equal_rows(stack, campaign_id, messages.values())
    _events_are_legal(stack, messages)
    _ledger_equals_messages(stack)
    results = [m["result_at"] for m in messages.values() if m["result_at"]]
    statuses = Counter(m["status"] for m in messages.values())
    return Figures(len(messages), dict(statuses), twice, max(results, default=None))


def _accepted_are_kept(messages: dict[str, dict[str, Any]], singles: Singles) -> None:
    """Each 2xx is a row, and each row without a campaign was a 2xx: no key did its work twice."""
    if singles.lost:
        raise Failed(f"{len(singles.lost)} requests were never accepted: {singles.refusals}")
    if unexpected := singles.unexpected():
        raise Failed(f"the API answered what no client can act on: {unexpected}")
    accepted = {message_id for one in singles.accepted for message_id in one.message_ids}
    kept = {key for key, row in messages.items() if row["campaign_id"] is None}
    if accepted - kept:
        raise Failed(f"{len(accepted - kept)} accepted messages are not there")
    if kept - accepted:
        raise Failed(f"{len(kept - accepted)} messages were made twice for one Idempotency-Key")


def _each_recipient_once(stack: Stack, campaign: list[dict[str, Any]]) -> None:
    recipients = Counter(row["subscription_id"] for row in campaign)
    more = [key for key, n in recipients.items() if n > 1]
    if more or len(recipients) != stack.size.recipients:
        raise Failed(f"{len(recipients)} of {stack.size.recipients} have a message, {len(more)} more than one")


def _are_final(messages: Iterable[dict[str, Any]], failed_reasons: Collection[str]) -> None:
    found = Counter((m["status"], m["error_reason"]) for m in messages)
    allowed = {("failed", reason) for reason in failed_reasons}
    wrong = {key: n for key, n in found.items() if key[0] not in ACCEPTED and key not in allowed}
    if wrong:
        raise Failed(f"not the states that were to be: {wrong}")


def _providers_have_them(
    messages: dict[str, dict[str, Any]], taken: list[tuple[str, dict[str, Any]]], duplicates_max: int
) -> int:
    """What is successful was taken at least once; how many were taken twice or more, under one collapse id each."""
    entries: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for message_id, entry in taken:
        entries[message_id].append(entry)
    missing = [key for key, m in messages.items() if m["status"] in ACCEPTED and key not in entries]
    if missing:
        raise Failed(f"{len(missing)} are called successful that no provider has")
    twice = {key: found for key, found in entries.items() if len(found) > 1}
    if len(twice) > duplicates_max:
        raise Failed(f"{len(twice)} were sent twice; at most {duplicates_max} were in flight")
    for key, found in twice.items():
        if {collapse_id(entry) for entry in found} != {key}:
            raise Failed(f"{key} was sent twice, and a device shows both: {[collapse_id(e) for e in found]}")
    return len(twice)


def collapse_id(entry: dict[str, Any]) -> str | None:
    """What makes a device show two as one."""
    headers = {str(name): value for name, value in dict(entry["headers"]).items()}
    if "apns-collapse-id" in headers:
        return str(headers["apns-collapse-id"])
    body = entry["body"]
    message = (json.loads(body) if isinstance(body, str) else body)["message"]
    android = message.get("android", {})
    tag: str | None = android.get("notification", {}).get("tag")
    return tag


def _counters_equal_rows(stack: Stack, campaign_id: str, messages: Iterable[dict[str, Any]]) -> None:
    [campaign] = stack.rows(
        """
        SELECT status, total_recipients, successful_count, failed_count
        FROM campaigns_messagecampaign WHERE id = %s
        """,
        campaign_id,
    )
    rows = Counter(m["status"] for m in messages if m["campaign_id"] == campaign_id)
    counted = (campaign["total_recipients"], campaign["successful_count"], campaign["failed_count"])
    found = (sum(rows.values()), sum(rows[s] for s in ACCEPTED), rows["failed"])
    if counted != found:
        raise Failed(f"the campaign counts {counted} (total, successful, failed), its rows are {found}")
    if campaign["status"] != "completed":
        raise Failed(f"the campaign is {campaign['status']}")


def _ledger_equals_messages(stack: Stack) -> None:
    """All that the application ever sent is counted once, nothing is reserved any more, and the ledger adds up."""
    [message] = stack.rows(
        """
        SELECT count(sent_at) AS sent, count(*) FILTER (WHERE status IN ('pending', 'errored')) AS opened,
               count(*) FILTER (WHERE error_reason = 'unknown_outcome') AS used_up
        FROM messaging_message WHERE application_id = %s AND channel_type = 'push'
        """,
        stack.application,
    )
    [quota] = stack.rows(
        """
        SELECT q.sent_total, q.reserved, q.posted_total, q.monthly_used, q.unit_price,
               (SELECT coalesce(sum(quantity), 0) FROM billing_ledgertransaction t
                WHERE t.application_id = q.application_id AND t.kind = 'usage') AS in_ledger,
               (SELECT coalesce(sum(balance), 0) FROM billing_ledgeraccount a
                WHERE a.application_id = q.application_id) AS all_balances,
               (SELECT coalesce(sum(balance), 0) FROM billing_ledgeraccount a
                WHERE a.application_id = q.application_id AND a.kind IN ('usage', 'revenue')) AS spent,
               (SELECT count(*) FROM (
                    SELECT FROM billing_ledgertransaction t JOIN billing_ledgerentry e ON e.transaction_id = t.id
                    WHERE t.application_id = q.application_id GROUP BY t.id HAVING sum(e.amount) <> 0
                ) unbalanced) AS unbalanced
        FROM billing_messagequota q WHERE q.application_id = %s AND q.channel_type = 'push'
        """,
        stack.application,
    )
    counted = (quota["sent_total"], quota["reserved"])
    if counted != (message["sent"], message["opened"]):
        raise Failed(f"the quota counts {counted} (sent, reserved), the messages are {message}")
    if quota["monthly_used"] > message["sent"] + message["opened"] + message["used_up"]:
        raise Failed(f"{quota['monthly_used']} messages are used up, and the messages are {message}")
    if quota["in_ledger"] != quota["posted_total"] or quota["posted_total"] > quota["sent_total"]:
        raise Failed(f"the ledger does not have what was posted: {quota}")
    if quota["spent"] != quota["posted_total"] * quota["unit_price"] or quota["all_balances"] or quota["unbalanced"]:
        raise Failed(f"the ledger does not add up: {quota}")


def _events_are_legal(stack: Stack, messages: dict[str, dict[str, Any]]) -> None:
    """From `pending` on, each event is a step that the specification allows, and the last one is the state."""
    ways: dict[str, list[str]] = {key: ["pending"] for key in messages}
    attempts: Counter[str] = Counter()
    sql = """
        SELECT message_id::text, event_type FROM messaging_messageevent
        WHERE application_id = %s AND id BETWEEN %s::uuid AND overlay(%s PLACING 'ff' FROM 35)::uuid
        ORDER BY message_id, occurred_at, id
    """  # an event's id is its message's but for the last byte
    for row in stack.rows(sql, stack.application, min(messages), max(messages)):
        if row["message_id"] in ways:
            ways[row["message_id"]].append(row["event_type"])
            attempts[row["message_id"]] += row["event_type"] in ("successful", "errored")
    for key, way in ways.items():
        for before, after in pairwise(way):
            if after not in STEPS[before]:
                raise Failed(f"{key} went {' → '.join(way)}")
        if way[-1] != messages[key]["status"]:
            raise Failed(f"{key} is {messages[key]['status']}, and its events say {' → '.join(way)}")
        if messages[key]["status"] in ACCEPTED and attempts[key] != messages[key]["attempts"]:
            raise Failed(f"{key} counts {messages[key]['attempts']} attempts, and its events {attempts[key]}")
