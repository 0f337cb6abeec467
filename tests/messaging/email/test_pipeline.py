"""E-mail the whole way: from the API, through queue and adapter, to a relay, and what is recorded."""

from email import message_from_string, policy
from uuid import UUID

import pytest

from apps.messaging import dispatch
from apps.messaging.adapters.email_content import PREFERENCES_MARK, UNSUBSCRIBE_MARK, marked
from apps.messaging.content import ContentSource
from apps.messaging.dispatches import dispatch_slice
from apps.messaging.models import DispatchBatch, Message
from apps.messaging.senders import close_senders
from apps.subscriptions.models import Subscription
from tests.factories import make_dispatch, make_subscription, make_subscriptions, make_user

pytestmark = pytest.mark.django_db(transaction=True)
BODY = '<p>Hello, <a href="https://shop.example.com/">shop</a></p>'


def addresses(count, marker=""):
    return [f"user{n}{marker}@example.net" for n in range(count)]


def sliced(application, **fields):
    """A dispatch to everybody, cut into batches."""
    order = make_dispatch(application, audience={}, **{"channel_type": "email", "title": "Hi", "body": BODY} | fields)
    return dispatch_slice(dispatch=order, after_id=None, limit=100_000).batch_ids


def run_all(batch_ids):
    for batch_id in batch_ids:
        assert dispatch.run_batch(UUID(str(batch_id)))


def mail_to(mail, address):
    (entry,) = mail.entries(token=address, outcome="accepted")
    return message_from_string(entry["body"], policy=policy.default)


def test_a_campaign_is_sent_and_recorded(application, mail):
    make_subscriptions(application, addresses(130), type="Email")
    run_all(sliced(application))
    assert Message.objects.filter(status="successful").count() == 130
    assert {e["token"] for e in mail.entries(outcome="accepted")} == set(addresses(130))
    assert not mail.duplicates()


def test_a_bounce_ends_the_subscription_and_a_full_mailbox_does_not_at_once(application, mail):
    make_subscriptions(
        application,
        ["a+550-5.1.1@example.net", "b+553-5.1.3@example.net", "c+552-5.2.2@example.net", "d+550-5.7.1@example.net"],
        type="Email",
    )
    run_all(sliced(application))
    failed = {m.error_reason: m for m in Message.objects.filter(status="failed")}
    assert failed.keys() == {"5.1.1", "5.1.3", "5.2.2", "5.7.1"}
    assert {m.error_details["class"] for m in failed.values()} == {"recipient", "sender"}
    assert failed["5.7.1"].error_details["class"] == "sender"
    status_of = {s.token[0]: s.subscription_status for s in Subscription.with_archived.all()}
    assert status_of == {"a": -42, "b": -40, "c": 1, "d": 1}


def test_a_busy_server_is_asked_again(application, mail):
    make_subscriptions(application, ["a+451-4.3.0~1@example.net"], type="Email")
    batch_ids = sliced(application)
    run_all(batch_ids)
    assert Message.objects.get().status == "errored"
    DispatchBatch.objects.update(due_at="2020-01-01T00:00:00Z")
    Message.objects.update(retry_at="2020-01-01T00:00:00Z")
    run_all(batch_ids)
    assert Message.objects.get().status == "successful"


def test_a_message_whose_fate_is_unknown_is_not_sent_again(application, mail):
    make_subscriptions(application, ["a+abort-accepted@example.net", "b@example.net"], type="Email")
    run_all(sliced(application))
    assert sorted(Message.objects.values_list("status", "error_reason")) == [
        ("failed", "unknown_outcome"),
        ("successful", None),
    ]


def test_each_recipient_gets_words_and_links_of_their_own(application, mail):
    for name in ("민수", "<b>Eve</b>"):
        user = make_user(application, f"u-{len(name)}", name=name)
        make_subscription(application, type="Email", token=f"u{len(name)}@example.net", user=user)
    body = (
        '<p>{{ name }}</p><a href="https://shop.example.com/?q={{ name }}">x</a><a href="{{ unsubscribe_url }}">out</a>'
    )
    run_all(sliced(application, title="For {{ name }}", body=body, is_personalised=True))
    pages = {}
    for address, name in (("u2@example.net", "민수"), ("u10@example.net", "<b>Eve</b>")):
        letter = mail_to(mail, address)
        assert letter["subject"] == f"For {name}"
        plain, html = letter.iter_parts()
        pages[address] = html.get_content()
        assert name in plain.get_content()
        assert letter["list-unsubscribe"].strip("<>") in pages[address]
    assert "<b>" not in pages["u10@example.net"]
    assert "&lt;b&gt;Eve&lt;/b&gt;" in pages["u10@example.net"]


def test_an_order_by_the_api_is_in_the_inbox(application, server, mail):
    subscription = make_subscription(application, type="Email", token="anna@example.net")
    order = {
        "channel_type": "email",
        "recipients": {"subscription_ids": [str(subscription.pk)]},
        "title": "Your order",
        "body": "<p>It is on its way.</p>",
        "options": {"track_opens": False, "reply_to": "help@example.com"},
    }
    answer = server.post("messages", order)
    assert answer.status_code == 202, answer.content
    run_all(DispatchBatch.objects.values_list("pk", flat=True))
    letter = mail_to(mail, "anna@example.net")
    assert (letter["subject"], letter["reply-to"]) == ("Your order", "help@example.com")
    assert letter["list-unsubscribe"] is None
    assert letter["auto-submitted"] == "auto-generated"
    assert "/e/o/" not in letter.get_body(("html",)).get_content()
    assert Message.objects.get().status == "successful"


@pytest.mark.parametrize(
    ("field", "content"),
    [
        ("title", {"title": "Hi\r\nBcc: eve@example.net"}),
        ("title", {"title": ""}),
        ("body", {"body": "<p>x</p>\n<script>alert(1)</script>"}),
        ("body", {"body": "<img src=x onerror=alert(1)>"}),
        ("body", {"body": "<a href='java\tscript:alert(1)'>x</a>"}),
        ("body", {"body": "<a href='java&#9;script:alert(1)'>x</a>"}),
        ("body", {"body": "<a/onclick=alert(1)>x</a>"}),
        ("body", {"body": '<p " onclick=alert(1)>x</p>'}),
        ("body", {"body": "<!--[if mso]><script></script><![endif]-->"}),
        ("body", {"body": "<form action=https://evil.example><input name=p></form>"}),
        ("body", {"body": "x" * 600_000}),
        ("data", {"data": {"a": 1}}),
        ("options.from_name", {"options": {"from_name": "Shop\r\nBcc: eve@example.net"}}),
        ("options.reply_to", {"options": {"reply_to": "a@example.com, b@example.com"}}),
        ("options.headers.X-A", {"options": {"headers": {"X-A": "1\nBcc: eve@example.net"}}}),
        ("options.headers.Bcc", {"options": {"headers": {"Bcc": "eve@example.net"}}}),
        ("options.attachments.0", {"options": {"attachments": ["../../etc/passwd"]}}),
        ("options.tags.0", {"options": {"tags": ["a b"]}}),
        ("options.track_opens", {"options": {"track_opens": "no"}}),
        ("options.badge", {"options": {"badge": 1}}),
    ],
)
def test_what_is_wrong_is_refused_with_its_field_and_nothing_is_sent(application, server, mail, field, content):
    subscription = make_subscription(application, type="Email", token="anna@example.net")
    order = {"channel_type": "email", "recipients": {"subscription_ids": [str(subscription.pk)]}}
    answer = server.post("messages", order | {"title": "Hi", "body": "<p>x</p>"} | content)
    assert answer.status_code == 400, answer.content
    assert answer.json()["error"]["details"][0]["field"] == field
    assert not Message.objects.exists()


def test_connections_outlive_a_batch(application, mail):
    make_subscriptions(application, addresses(40), type="Email")
    for _ in range(3):
        run_all(sliced(application))
    assert len({entry["connection"] for entry in mail.entries()}) <= 4
    close_senders()


def test_a_value_that_looks_like_our_placeholders_is_text():
    body = '<p>{{ name }}</p><a href="{{ name }}">x</a><a href="{{ unsubscribe_url }}">out</a>'
    for said in (
        "https://a.example/?{{ unsubscribe_url }}",
        UNSUBSCRIBE_MARK,
        f"https://a.example/?{PREFERENCES_MARK}",
    ):
        for options in ({}, {"format": "text"}):
            source = ContentSource(body=body, channel_type="email", options=options, is_personalised=True)
            shown = marked(source.render({"name": said}).body)
            assert shown.count(UNSUBSCRIBE_MARK) == 1
            assert f'<a href="{UNSUBSCRIBE_MARK}">out</a>' in shown
            assert PREFERENCES_MARK not in shown
