"""Who of an audience a dispatch is for, where several share it: the variants of a test, and those who get nothing.

Everybody stands in one of a million buckets, by a hash of the campaign and of the user (a subscription without one:
itself), so that all devices of a user are in the same. A dispatch takes the buckets from `split_from` up to `split_to`.
Nothing is stored of who is where: the database, a worker and a reader of this file come to the same bucket.
"""

from __future__ import annotations

import hashlib
from uuid import UUID

from apps.messaging.models import Dispatch
from apps.subscriptions.targeting import Predicate

BUCKETS = 1_000_000
"""Percents of percents of percents are whole buckets."""

# SHA-256 rather than one of PostgreSQL's own hashes: it is the same in every version and on every machine.
BUCKET = (
    "(('x' || encode(substring(sha256(uuid_send(%s::uuid) || uuid_send(coalesce(s.user_id, s.id)))"
    " from 1 for 4), 'hex'))"
    f"::bit(32)::bigint %% {BUCKETS})::int"
)
"""The bucket of the subscription `s`; its parameter is the campaign."""


def bucket_of(campaign_id: UUID, subject_id: UUID) -> int:
    """The same in Python; `subject_id` is the user's, or the subscription's if it has none."""
    digest = hashlib.sha256(campaign_id.bytes + subject_id.bytes).digest()
    return int.from_bytes(digest[:4], "big") % BUCKETS


def of_split(predicate: Predicate, dispatch: Dispatch) -> Predicate:
    """`predicate`, narrowed to the dispatch's buckets. The very same where it has none."""
    if dispatch.split_from is None:
        return predicate
    sql = f"({predicate.sql}) AND {BUCKET} >= %s AND {BUCKET} < %s"
    bounds = [dispatch.campaign_id, dispatch.split_from, dispatch.campaign_id, dispatch.split_to]
    return Predicate(sql, [*predicate.params, *bounds], predicate.needs_user)


# By `message_by_subscription`, in the partitions since the campaign was drafted: its messages are younger than it.
_NOT_YET = """NOT EXISTS (
    SELECT 1 FROM messaging_message had WHERE had.subscription_id = s.id AND had.id > %s
      AND had.application_id = s.application_id AND had.campaign_id = %s AND had.dispatch_id <> %s)"""


def without_repeats(predicate: Predicate, dispatch: Dispatch) -> Predicate:
    """For the moment at which the messages are made: nobody gets a second variant who has signed in meanwhile, and
    stands in the bucket of the user now. The very same where there is no split."""
    if dispatch.split_from is None:
        return predicate
    params = [*predicate.params, dispatch.campaign_id, dispatch.campaign_id, dispatch.pk]
    return Predicate(f"({predicate.sql}) AND {_NOT_YET}", params, predicate.needs_user)
