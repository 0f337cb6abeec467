"""Messages as who answers a customer uses them: found by what is at hand, read as a story, sent again."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from apps.messaging import lifecycle
from apps.messaging.models import DispatchBatch, Message, MessageRequeue
from apps.sandbox.credentials import make_apns_key, make_fcm_account
from tests.admin.conftest import make_world
from tests.browser.conftest import PHONE
from tests.factories import make_messages

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def shop(application):
    """A message that arrived and was opened after a second attempt, and some that failed."""
    keys = make_apns_key(["com.example.shop"]), make_fcm_account("demo-shop", "https://oauth2.googleapis.com/token")
    world = make_world(application, "Aurora", keys)
    subscription, user = world["subscriptions.Subscription"], world["subscriptions.AppUser"]
    message = make_messages(application, ["pending"])[0]
    type(world["messaging.Dispatch"]).objects.filter(pk=message.dispatch_id).update(
        title="Your order is on its way", body="It arrives tomorrow between 10 and 12. Tap to see where it is."
    )
    Message.objects.filter(pk=message.pk).update(subscription_id=subscription.pk, user_id=user.pk)
    now, one = timezone.now(), {"ids": [message.pk], "application_id": application.pk}
    answer = {
        "class": "provider",
        "outcome": "transient",
        "reason": "ServiceUnavailable",
        "http_status": 503,
        "attempt": 1,
    }
    lifecycle.apply(
        "error",
        source="pending",
        at=now + timedelta(seconds=1),
        metadata=answer,
        attempted=True,
        reason="ServiceUnavailable",
        details=answer,
        retry_at=now + timedelta(seconds=8),
        **one,
    )
    lifecycle.apply("retry", source="errored", at=now + timedelta(seconds=8), **one)
    lifecycle.apply("send", source="pending", at=now + timedelta(seconds=9), attempted=True, **one)
    lifecycle.apply("receive", source="successful", at=now + timedelta(seconds=11), **one)
    lifecycle.apply("convert", source="received", at=now + timedelta(minutes=4), **one)
    failed = make_messages(application, ["failed"] * 4)
    Message.objects.filter(pk__in=[row.pk for row in failed]).update(
        error_reason="no_credential",
        failed_at=now,
        subscription_id=subscription.pk,
        error_details={"class": "sender", "message": "the application has no active apns credential"},
    )
    DispatchBatch.objects.filter(dispatch_id=failed[0].dispatch_id).update(has_failed=True)
    world.message, world.failed = message, failed
    return world


def test_a_message_is_found_and_read_from_the_request_to_the_tap(browse, shop):
    console = browse("owner")
    page = console.open("/admin/messaging/message/")
    console.shot("messages-list")
    console.axe()
    console.fits()
    page.get_by_label("Search", exact=True).fill("Aurora-user")
    page.locator(".am-search").get_by_role("button", name="Search").click()
    console.settle()
    page.locator(f"a[href*='{shop.message.pk}']").first.click()
    console.settle()
    shown = page.locator("#timeline").inner_text()
    for word in ("Refused for now", "ServiceUnavailable", "Taken up again", "Arrived on the device", "Opened"):
        assert word in shown
    console.shot("message")
    console.axe()
    console.fits()
    phone = browse("support", viewport=PHONE, color_scheme="dark")
    phone.open(f"/admin/messaging/message/{shop.message.pk}/change/")
    phone.shot("message-phone-dark")
    phone.axe()
    phone.fits()


def test_what_failed_of_a_reason_is_counted_and_sent_again(browse, shop):
    console = browse("marketer")
    page = console.open("/admin/messaging/message/")
    page.get_by_label("Failed of").fill("no_credential")
    page.locator(".am-search").get_by_role("button", name="Search").click()
    console.settle()
    assert "4 found" in page.locator(".am-found").inner_text()
    console.shot("messages-failed")
    page.get_by_role("link", name="Count them and send again").click()
    console.settle()
    console.shot("messages-requeue")
    page.get_by_role("button", name="Send again").click()
    page.wait_for_url("**/messagerequeue/**")
    assert MessageRequeue.objects.order_by("-pk").first().requeued == 4
    console.open(f"/admin/messaging/message/{shop.failed[0].pk}/change/")
    console.shot("message-failed")
    console.axe()
