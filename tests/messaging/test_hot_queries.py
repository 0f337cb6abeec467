"""The queries of the hot path and their keys: each is for one application, so that its rows can lie on one node.

Past one PostgreSQL the plan is Citus, distributed by `application_id` (docs/performance.md): a query that names the
application of every table it reads or writes goes to the node that has it, and joins nothing across nodes. This runs
the whole way of messages, takes down every statement, and looks at each. `test_citus_schema.py` runs this page again on
the keys that Citus demands.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

import pytest
from django.db.backends.utils import CursorWrapper
from django.utils import timezone

from apps.campaigns import services as campaigns
from apps.campaigns.management.commands.citus_schema import DISTRIBUTED
from apps.messaging import dispatch, making, requeue
from apps.messaging.content import content_source
from apps.messaging.models import DispatchBatch, Message
from apps.messaging.named import Recipients
from apps.messaging.receipts.sdk import Receipt, receipts_apply
from apps.messaging.requeue import FailedFilter
from apps.messaging.services import messages_send
from apps.subscriptions.models import Subscription
from tests.factories import handle_of, make_subscription, make_subscriptions, make_user

pytestmark = pytest.mark.django_db(transaction=True)

HOT = {
    "accept: messages by text": r"^INSERT INTO messaging_message .*unnest",
    "claim: the batch, by application and key": r'^SELECT .*"messaging_dispatchbatch".* FOR UPDATE .*SKIP LOCKED',
    "claim: which way a batch goes": r"^SELECT state, subscription_type, priority FROM messaging_dispatchbatch",
    "claim: the next that goes the same way": r"^SELECT b\.id FROM messaging_dispatchbatch b .* SKIP LOCKED",
    "claim: the slice of the audience": r"^WITH audience AS MATERIALIZED .* INSERT INTO messaging_message",
    "claim: a batch that is due again, by range": r"^SELECT m\.id::text, .* BETWEEN .*m\.status = 'errored'",
    "record: the lease": r"^UPDATE messaging_dispatchbatch SET lease_until",
    "record: accepted, refused and put off, by keys": r"^WITH moved AS \( UPDATE messaging_message",
    "record: subscriptions that end": r"^WITH ends AS",
    "record: a campaign's counters": r"^UPDATE campaigns_messagecampaign SET",
    "record: a campaign's reasons": r"^INSERT INTO campaigns_campaignfailure",
    "reserve: the quota and the credit": r"^WITH profile AS MATERIALIZED .* UPDATE billing_messagequota",
    "record: the quota": r"^UPDATE billing_messagequota SET reserved",
    "give back: by what the range still holds": r"^UPDATE messaging_dispatchbatch b SET lease_id = NULL",
    "receipts: lock by keys": r"^SELECT m\.id::text, m\.subscription_id::text, s\.handle_version",
    "receipts: subscriptions' counters": r"^WITH counts AS",
    "requeue: failed ones of a range": r"^SELECT m\.id, m\.dispatch_id, .* FOR UPDATE OF m",
    "requeue: mark by keys": r"^UPDATE messaging_message m SET requeued_as",
}
"""What has to be seen, so that this page stays a list of the hot queries, and each is looked at."""


@contextmanager
def taken_down() -> Iterator[list[str]]:
    """Every statement of every thread, with its whitespace made one space."""
    statements: list[str] = []
    execute = CursorWrapper.execute

    def noted(self, sql, params=None):
        statements.append(" ".join(str(sql).split()))
        return execute(self, sql, params)

    CursorWrapper.execute = noted
    try:
        yield statements
    finally:
        CursorWrapper.execute = execute


def tables(statement: str) -> set[str]:
    return {name for name in DISTRIBUTED if re.search(rf"\b{name}\b", statement)}


def applications_named(statement: str) -> int:
    """How many times the statement names the application of a table: in a condition, or as a column it inserts."""
    conditions = re.findall(r'application_id"? (?:=|IN) ', statement)
    inserted = re.findall(r"INSERT INTO \S+ (?:AS \w+ )?\([^)]*application_id", statement)
    return len(conditions) + len(inserted)


@pytest.fixture
def statements(application, server, apns):
    """The way of a campaign with every outcome, of a single message, of receipts, and of a requeue."""
    make_subscription(application, token="ab" * 32, user=make_user(application, "u-1"))
    make_subscriptions(
        application, [f"{p}{n:0{64 - len(p)}x}" for p in ("", "dead4101", "deaf50331") for n in range(3)]
    )
    body = {"name": "Sale", "title": "Hi", "body": "There", "targeting_criteria": {}}
    campaign_id = server.post("campaigns", body).json()["data"]["id"]
    server.post(f"campaigns/{campaign_id}/launch")
    campaigns.fan_out(UUID(campaign_id))
    content = content_source(application=application, channel_type="push", title="Hi", body="There")
    taken = send_all(application)
    make_due(application)
    taken += send_all(application)
    sent = Message.objects.filter(status="successful")[:3]
    receipts = [Receipt(m.pk, kind, handle=handle_of(m)) for m in sent for kind in ("received", "converted")]
    with taken_down() as more:
        receipts_apply(application=application, receipts=receipts, trusted=False)
        messages_send(
            application=application,
            channel_type="push",
            recipients=Recipients(external_ids=["u-1"]),
            content=content,
            priority="high",
        )
    taken += more + send_all(application)
    Subscription.objects.update(subscription_status=1)
    with taken_down() as more:
        requeue.requeue_start(application=application, which=FailedFilter(error_class="recipient"))
    return taken + more


def make_due(application):
    Message.objects.for_application(application).filter(status="errored").update(retry_at=timezone.now())
    DispatchBatch.objects.for_application(application).filter(state="waiting").update(due_at=timezone.now())


def send_all(application) -> list[str]:
    """Send what waits, as a worker does; what it asked of the database."""
    waiting = DispatchBatch.objects.for_application(application).filter(state="waiting")
    with taken_down() as taken:
        for batch_id in list(waiting.values_list("pk", flat=True)):
            assert dispatch.run_batch(batch_id, application.pk)
        dispatch.run_line(DispatchBatch.objects.for_application(application).latest("pk").pk, application.pk)
    return taken


@pytest.mark.parametrize("name", HOT)
def test_the_hot_query_is_seen(statements, name):
    assert any(re.search(HOT[name], statement) for statement in statements), "\n".join(sorted(set(statements)))


def test_every_hot_query_names_the_application_of_each_of_its_tables(statements):
    lacking = {s for s in statements if tables(s) and applications_named(s) < len(tables(s))}
    assert not lacking, "\n\n".join(sorted(lacking))


def test_a_campaigns_messages_are_copied_with_their_application():
    assert "application_id" in making._COPY
