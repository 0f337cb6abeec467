"""The demo's other channels: when it says that all is accounted for, and what its receiver of webhooks believes."""

from __future__ import annotations

import http.client
import json
import time
from dataclasses import replace
from urllib.parse import urlsplit

import pytest

from automata_signal.outgoing import signed
from tools.demo_channels import EMAIL, KAKAO, SMS, ChannelsError, Letter, Quiet, Receiver, Row, problems_of, table

BY_STATUS = {"pending": 0, "errored": 0, "successful": 1, "received": 1, "converted": 0, "failed": 1}
STATS = {"total": 3, "received": 1, "converted": 0, "failed": 1, "by_status": BY_STATUS, "failures": {"3050": 1}}
TOLD = {"sms message.successful": {"a", "b", "c"}, "sms message.failed": {"c"}, "sms message.received": {"a"}}
ROW = Row(SMS, STATS, 1.5, sent={"a", "b", "c"}, failed={"c"}, arrived={"a"}, note="delivered")


def test_a_channel_adds_up():
    assert problems_of(ROW, TOLD) == []


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"stats": {**STATS, "total": 4}}, "messages and the sum of their states"),
        ({"stats": {**STATS, "by_status": {**BY_STATUS, "pending": 1}}}, "without an end"),
        ({"sent": {"a", "b"}}, "webhooks told of 3 messages successful, the peers of 2"),
        ({"sent": {"a", "b", "x"}}, "webhooks told of 3 messages successful, the peers of 3"),
        ({"sent": {"a", "b", "c", "d"}}, "took or refused"),
        ({"failed": {"b", "c"}}, "failures by the peer's word"),
        ({"arrived": set()}, "those by the peer's word"),
        ({"converted": {"a"}}, "links followed"),
        ({"followed": 1}, "took or refused"),
    ],
)
def test_what_does_not_add_up_is_named(change, problem):
    assert any(problem in line for line in problems_of(replace(ROW, **change), TOLD))


def test_messages_by_which_a_chain_went_on_are_in_the_campaigns_figures():
    stats = {**STATS, "total": 4, "received": 2, "by_status": {**BY_STATUS, "received": 2}}
    told = {name.replace("sms", KAKAO): ids for name, ids in TOLD.items()}
    assert problems_of(replace(ROW, channel=KAKAO, stats=stats, followed=1), told) == []


def test_a_refused_recipient_of_an_e_mail_is_known_by_name():
    told = {"email message.successful": {"a", "b"}, "email message.failed people": {"customer-7"}}
    row = replace(ROW, channel=EMAIL, sent={"a", "b"}, failed={"customer-7"}, arrived={"a"})
    assert problems_of(row, {**told, "email message.received": {"a"}}) == []
    assert problems_of(row, {**told, "email message.received": {"a"}, "email message.failed people": {"customer-8"}})


def test_the_table_has_a_line_for_each_channel_with_its_failures():
    head, line = table([ROW]).splitlines()
    assert head.split() == ["Channel", "sent", "arrived", "acted", "on", "failed", "time"]
    assert line.split() == ["SMS", "3", "1", "0", "1", "1.5", "s", "delivered;", "1", "×", "3050"]


# --- The receiver --------------------------------------------------------------------------------------------------


@pytest.fixture
def receiver():
    made = Receiver()
    made.secret = "whsec_of_the_demo"
    yield made
    made.close()


def event(number: int, kind: str = "message.failed") -> dict:
    data = {"message_id": f"m{number}", "channel": "sms", "external_id": f"customer-{number}"}
    return {"id": f"e{number}", "type": kind, "data": data}


def post(receiver: Receiver, events: list[dict], **how) -> int:
    body = json.dumps(events).encode()
    parts = urlsplit(receiver.url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=10)
    connection.request("POST", parts.path, body, signed(how.get("secret", receiver.secret), body, at_s=how.get("at_s")))
    status = connection.getresponse().status
    connection.close()
    return status


def test_each_event_counts_once_however_often_it_comes(receiver):
    assert [post(receiver, [event(1), event(2)]), post(receiver, [event(2), event(3)])] == [204, 204]
    assert (receiver.posts, receiver.events, receiver.repeated, receiver.forged) == (2, 3, 1, 0)
    assert receiver.told()["sms message.failed"] == {"m1", "m2", "m3"}
    assert receiver.told()["sms message.failed people"] == {"customer-1", "customer-2", "customer-3"}


@pytest.mark.parametrize("how", [{"secret": "another"}, {"at_s": int(time.time()) - 3_600}])
def test_what_is_not_signed_with_our_secret_just_now_is_not_believed(receiver, how):
    assert post(receiver, [event(1)], **how) == 401
    assert (receiver.events, receiver.forged) == (0, 1)


# --- Reading e-mails -----------------------------------------------------------------------------------------------

HTML = '<p><a href="http://127.0.0.1:1/e/c/abc">x</a><a href="https://else.example/">y</a><img src="http://127.0.0.1:1/e/o/d.gif"></p>'
MAIL = (
    "From: a@b.example\r\nList-Unsubscribe: <http://127.0.0.1:1/e/unsubscribe/t>\r\n"
    "MIME-Version: 1.0\r\nContent-Type: text/html; charset=utf-8\r\n\r\n"
)


def test_the_links_of_an_e_mail_are_found_as_a_mail_program_shows_them():
    letter = Letter(MAIL + HTML, "http://127.0.0.1:1")
    assert letter.links == ["http://127.0.0.1:1/e/c/abc"]
    assert (letter.pixel, letter.one_click) == ("http://127.0.0.1:1/e/o/d.gif", "http://127.0.0.1:1/e/unsubscribe/t")


@pytest.mark.parametrize("lacking", ["/e/c/", "<img", "List-Unsubscribe"])
def test_an_e_mail_that_lacks_one_is_refused(lacking):
    with pytest.raises(ChannelsError, match="lacks"):
        Letter((MAIL + HTML).replace(lacking, "nothing"), "http://127.0.0.1:1")


def test_nothing_moving_ends_the_wait(monkeypatch):
    monkeypatch.setattr("tools.demo_channels.SETTLES_S", 0.0)
    quiet = Quiet("webhooks")
    quiet.watch(1)
    time.sleep(0.001)
    with pytest.raises(ChannelsError, match="webhooks: nothing has moved"):
        quiet.watch(1)
    given_up = Quiet("webhooks", raises=False)
    given_up.watch(1)
    time.sleep(0.001)
    assert given_up.watch(1)
