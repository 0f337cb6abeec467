"""What people have to be told about their choices leaves as a message."""

from __future__ import annotations

import pytest

from apps.messaging.dispatch import run_batch
from apps.messaging.models import Dispatch, DispatchBatch, Message
from apps.messaging.notices import notice_send
from apps.subscriptions.models import Subscription
from apps.subscriptions.preferences.letters import NoticeToSend
from automata_signal.errors import Conflict
from automata_signal.ids import new_id
from tests.factories import make_subscription

pytestmark = pytest.mark.django_db(transaction=True)


def notice(application, subscription, kind):
    return NoticeToSend(
        id=new_id(),
        kind=kind,
        application=application,
        subscription_id=subscription.pk,
        channel="push",
        language="en",
        title="Please confirm",
        body="By this link",
    )


@pytest.mark.parametrize(
    ("kind", "status", "becomes"),
    [
        ("opt_in", -98, "successful"),
        ("opt_in", -2, "failed"),
        ("result", 1, "successful"),
        ("result", -98, "failed"),
    ],
)
def test_only_a_request_for_confirmation_reaches_who_has_not_confirmed(application, apns, kind, status, becomes):
    subscription = make_subscription(application, token="ab" * 32, subscription_status=status)
    message_id = notice_send(notice(application, subscription, kind))
    run_batch(DispatchBatch.objects.get().pk)
    assert Message.objects.get(pk=message_id).status == becomes
    assert Subscription.objects.get(pk=subscription.pk).subscription_status == status


def test_a_subscription_of_another_channel_is_refused_and_leaves_nothing(application):
    subscription = make_subscription(application, type="InAppMessage", token="inbox-1")
    with pytest.raises(Conflict):
        notice_send(notice(application, subscription, "result"))
    assert Dispatch.objects.count() == 0
