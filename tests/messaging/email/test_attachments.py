"""Files that go along with an e-mail: named by id, checked when it is accepted, read when it leaves."""

import pytest

from apps.messaging import dispatch
from apps.messaging.media.models import MediaFile
from apps.messaging.media.services import media_create, media_delete
from apps.messaging.models import DispatchBatch, Message
from tests.factories import make_subscription
from tests.messaging.email.test_pipeline import mail_to

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def terms(application):
    return media_create(application=application, file_name="terms.txt", chunks=[b"Our terms.\n"], by="tests")


@pytest.fixture
def send(application, server):
    subscription = make_subscription(application, type="Email", token="kim@example.net")

    def post(*ids):
        content = {"title": "Hi", "body": "<p>Attached.</p>", "options": {"attachments": [str(key) for key in ids]}}
        recipients = {"subscription_ids": [str(subscription.pk)]}
        return server.post("messages", {"channel_type": "email", "recipients": recipients, **content})

    return post


def run() -> None:
    dispatch.run_batch(DispatchBatch.objects.get().pk)


def test_a_file_goes_along_and_is_marked_as_used(send, mail, terms):
    assert send(terms.pk).status_code == 202
    assert MediaFile.objects.get().last_used_at is not None
    run()
    (attached,) = mail_to(mail, "kim@example.net").iter_attachments()
    assert (attached.get_filename(), attached.get_content()) == ("terms.txt", b"Our terms.\n")


def test_a_file_that_is_gone_when_it_leaves_fails_the_message_and_nothing_is_sent(application, send, mail, terms):
    send(terms.pk)
    media_delete(application=application, media_id=terms.pk, even_if_used=True)
    run()
    message = Message.objects.get()
    assert (message.status, message.error_reason) == ("failed", "attachment_missing")
    assert mail.entries() == []


def test_a_strangers_file_is_refused(other_application, send, mail):
    foreign = media_create(application=other_application, file_name="a.txt", chunks=[b"theirs"], by="tests")
    answer = send(foreign.pk)
    assert answer.status_code == 400
    assert [problem["field"] for problem in answer.json()["error"]["details"]] == ["options.attachments.0"]
    assert Message.objects.count() == 0
