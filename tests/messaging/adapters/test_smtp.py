"""The SMTP adapter against a relay that is as strict as large receivers are, over real sockets."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from email import message_from_string, policy

import pytest

from apps.messaging.adapters import smtp
from apps.messaging.adapters.base import Attachment, Content, CredentialError, Delivery, Endpoint, Outcome
from apps.messaging.adapters.email_building import Author, Built, Letter, envelope_address, inlined
from apps.messaging.adapters.email_content import check_html
from apps.messaging.adapters.email_tokens import LinkMaker, read_click_token
from apps.messaging.adapters.smtp import SmtpAdapter
from apps.messaging.adapters.smtp_reasons import SMTP, WITHOUT_ENHANCED, Reply, smtp_verdict
from automata_signal.ids import new_id
from tests.mail_peers import port_of
from tests.mail_senders import smtp_secret

HTML = (
    "<html><head><style>p { color: #333 } @media (max-width: 600px) { p { color: red } }</style></head><body>"
    '<p>안녕하세요 &amp; <a href="https://shop.example.com/a?x=1&amp;y=2">shop</a></p>.hidden'
    '<p><a href="{{ unsubscribe_url }}">out</a></p></body></html>'
)
HELLO = Content(title="Hello", body=HTML)


@pytest.fixture
def open_sender(smtp_relay, relay_settings):
    senders = []

    def opened(secret=None, **changes):
        fields = {"public_url": "https://signal.example.com", "connections": 2, "timeout_s": 3.0}
        endpoint = Endpoint("", **{**fields, "ca_file": str(smtp_relay.ca_file), **changes})
        senders.append(SmtpAdapter().open(secret or smtp_secret(smtp_relay), endpoint))
        return senders[-1]

    yield opened
    for sender in senders:
        sender.close()


def closed_port():
    with socket.create_server(("localhost", 0)) as server:
        return server.getsockname()[1]


def delivery(address="anna@example.net", content=HELLO):
    return Delivery(str(new_id()), address, content, subscription_id=str(new_id()))


def outcomes(sender, *addresses, content=HELLO):
    sent = [delivery(address, content) for address in addresses]
    results = {result.message_id: result for result in sender.send(iter(sent))}
    assert len(results) == len(sent)
    return [results[one.message_id] for one in sent]


def mail_of(relay, token="anna@example.net"):
    (entry,) = relay.control.entries(token=token, outcome="accepted")
    return message_from_string(entry["body"], policy=policy.default)


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_a_strict_relay_takes_what_we_send(smtp_relay, open_sender, security):
    port = port_of(smtp_relay.url if security == "starttls" else smtp_relay.tls_url)
    sender = open_sender(smtp_secret(smtp_relay, security=security, port=port))
    results = outcomes(sender, *(f"user{n}@example.net" for n in range(60)), "민수@example.net", "ann@예시.kr")
    assert Counter(result.outcome for result in results) == {Outcome.ACCEPTED: 62}
    assert {e["token"] for e in smtp_relay.control.entries()} >= {
        "민수@example.net",
        f"ann@{'예시'.encode('idna').decode()}.kr",
    }


def test_the_mail_has_all_that_inboxes_ask_for(smtp_relay, open_sender):
    content = Content(
        title="(광고) 봄 세일 소식을 전해 드립니다. 오늘까지만 드리는 아주 특별한 혜택",
        body=HTML,
        options={"from_name": "가게", "reply_to": "help@example.com", "preheader": "오늘만", "tags": ["spring"]},
    )
    (result,) = outcomes(open_sender(), "anna@example.net", content=content)
    mail = mail_of(smtp_relay)
    assert mail["subject"] == content.title
    assert (mail["from"], mail["to"], mail["reply-to"]) == (
        "가게 <news@example.com>",
        "anna@example.net",
        "help@example.com",
    )
    assert mail["message-id"] == f"<{result.message_id}@example.com>"
    assert mail["list-unsubscribe-post"] == "List-Unsubscribe=One-Click"
    assert mail["list-unsubscribe"].startswith("<https://signal.example.com/e/unsubscribe/")
    assert mail["feedback-id"] == "spring:email:automata:examplecom"
    plain, html = mail.iter_parts()
    assert (plain.get_content_type(), html.get_content_type()) == ("text/plain", "text/html")
    text, page = plain.get_content(), html.get_content()
    assert "안녕하세요 & [shop](https://shop.example.com/a?x=1&y=2)" in text
    assert mail["list-unsubscribe"].strip("<>") in text
    assert mail["list-unsubscribe"].strip("<>") in page
    assert 'style="color: #333;"' in page
    assert "@media" in page
    assert "https://shop.example.com" not in page
    assert "https://signal.example.com/e/c/" in page
    assert "https://signal.example.com/e/o/" in page
    assert ".invalid" not in page
    assert "오늘만" in page


def test_connections_are_kept_and_used_again(smtp_relay, open_sender):
    sender = open_sender()
    for _ in range(5):
        outcomes(sender, *(f"user{n}@example.net" for n in range(45)))
    assert smtp_relay.control.stats()["accepted"] == 225
    assert len({entry["connection"] for entry in smtp_relay.control.entries()}) <= 2


CODES = sorted(code for code in SMTP if code.count(".") == 2)


@pytest.mark.parametrize("code", CODES)
def test_each_code_has_its_verdict_over_the_wire(smtp_relay, open_sender, code):
    basic = {"4": "450", "5": "550"}[code[0]]
    refused, taken = outcomes(open_sender(), f"anna+{basic}-{code}@example.net", "bert@example.net")
    verdict = SMTP[code]
    assert (refused.outcome, refused.reason, refused.http_status) == (verdict.outcome, code, int(basic))
    assert (refused.subscription_status, refused.soft_status) == (verdict.subscription_status, verdict.soft_status)
    assert taken.outcome is Outcome.ACCEPTED


TABLE = [  # providers.md 3.2
    ("550 5.1.1 x", Outcome.RECIPIENT_GONE, -42, None),
    ("550 5.1.2 x", Outcome.RECIPIENT_GONE, -42, None),
    ("556 5.1.10 x", Outcome.RECIPIENT_GONE, -42, None),
    ("553 5.1.3 x", Outcome.RECIPIENT_GONE, -40, None),
    ("550 5.1.6 x", Outcome.RECIPIENT_GONE, -42, None),
    ("550 5.2.1 x", Outcome.RECIPIENT_GONE, -42, None),
    ("552 5.2.2 x", Outcome.RECIPIENT_GONE, None, -43),
    ("452 4.2.2 x", Outcome.TRANSIENT, None, -43),
    ("451 4.3.0 x", Outcome.TRANSIENT, None, None),
    ("451 4.4.1 x", Outcome.TRANSIENT, None, None),
    ("450 4.7.1 x", Outcome.TRANSIENT, None, None),
    ("552 5.2.3 x", Outcome.PAYLOAD_REJECTED, None, None),
    ("552 5.3.4 x", Outcome.PAYLOAD_REJECTED, None, None),
    ("550 5.6.0 x", Outcome.PAYLOAD_REJECTED, None, None),
    ("550 5.7.1 x", Outcome.PAYLOAD_REJECTED, None, None),
    ("550 5.7.26 x", Outcome.PAYLOAD_REJECTED, None, None),
    ("551 5.1.7 x", Outcome.PAYLOAD_REJECTED, None, None),
    ("553 5.1.8 x", Outcome.PAYLOAD_REJECTED, None, None),
    ("421 x", Outcome.TRANSIENT, None, None),
    ("421 4.7.0 x", Outcome.THROTTLED, None, None),
    ("550 No such user here", Outcome.RECIPIENT_GONE, -42, None),
    ("550 Requested action not taken: mailbox unavailable", Outcome.RECIPIENT_GONE, None, -43),
    ("550 Blocked by our spam policy", Outcome.PAYLOAD_REJECTED, None, None),
    ("530 Authentication required", Outcome.CREDENTIAL, None, None),
    ("599 what is this", Outcome.PAYLOAD_REJECTED, None, None),
    ("499 what is this", Outcome.TRANSIENT, None, None),
    ("550 5.99.9 What", Outcome.RECIPIENT_GONE, None, -43),
]


@pytest.mark.parametrize(("line", "outcome", "ends", "counts"), TABLE, ids=[row[0] for row in TABLE])
def test_the_table_of_the_reference(line, outcome, ends, counts):
    verdict = smtp_verdict(Reply.read(int(line[:3]), line[4:]))
    assert (verdict.outcome, verdict.subscription_status, verdict.soft_status) == (outcome, ends, counts)


@pytest.mark.parametrize("code", sorted(WITHOUT_ENHANCED))
def test_no_refusal_of_a_whole_message_blames_its_recipient(code):
    for stage in ("mail", "message"):
        verdict = smtp_verdict(Reply(code, "", "Transaction failed"), stage=stage)
        assert verdict.subscription_status in (None, -42)
        assert code == 556 or verdict.subscription_status is None


@pytest.mark.parametrize(
    ("marker", "outcome", "reason"),
    [
        ("abort-rcpt", Outcome.TRANSIENT, "connection_lost"),
        ("abort-data", Outcome.TRANSIENT, "connection_lost"),
        ("abort", Outcome.UNKNOWN, "connection_lost"),
        ("abort-accepted", Outcome.UNKNOWN, "connection_lost"),
        ("data-554-5.7.1", Outcome.PAYLOAD_REJECTED, "5.7.1"),
        ("data-450-4.7.1", Outcome.TRANSIENT, "4.7.1"),
        ("421-4.7.0", Outcome.THROTTLED, "4.7.0"),
        ("data-421-4.3.2", Outcome.TRANSIENT, "4.3.2"),
    ],
)
def test_one_recipient_never_costs_the_others(smtp_relay, open_sender, marker, outcome, reason):
    others = [f"user{n}@example.net" for n in range(8)]
    addresses = [*others[:4], f"anna+{marker}@example.net", *others[4:]]
    results = outcomes(open_sender(connections=1), *addresses)
    bad = results.pop(4)
    assert (bad.outcome, bad.reason) == (outcome, reason)
    assert [result.outcome for result in results] == [Outcome.ACCEPTED] * 8
    assert sorted(e["token"] for e in smtp_relay.control.entries(outcome="accepted") if "+" not in e["token"]) == others


def test_no_answer_to_the_message_is_unknown(smtp_relay, open_sender):
    (result,) = outcomes(open_sender(timeout_s=0.3), "anna+hang@example.net")
    assert (result.outcome, result.reason) == (Outcome.UNKNOWN, "operation_timedout")


def test_a_server_that_is_away_is_no_fault_of_anybody(smtp_relay, open_sender):
    results = outcomes(open_sender(smtp_secret(smtp_relay, port=closed_port())), *["anna@example.net"] * 50)
    assert {(r.outcome, r.reason) for r in results} == {(Outcome.TRANSIENT, "couldnt_connect")}


def test_a_wrong_password_and_a_strange_certificate_stop_the_credential(smtp_relay, open_sender):
    (result,) = outcomes(open_sender(smtp_secret(smtp_relay, password="wrong")), "anna@example.net")
    assert (result.outcome, result.reason) == (Outcome.CREDENTIAL, "535")
    (result,) = outcomes(open_sender(ca_file=""), "anna@example.net")
    assert (result.outcome, result.reason) == (Outcome.CREDENTIAL, "certificate_invalid")


def test_private_networks_are_not_called(smtp_relay, open_sender, settings):
    settings.OUTGOING_ALLOW_PRIVATE = False
    (result,) = outcomes(open_sender(), "anna@example.net")
    assert (result.outcome, result.reason) == (Outcome.CREDENTIAL, "host_refused")


def test_what_is_no_address_never_reaches_the_server(smtp_relay, open_sender):
    bad = [
        "anna@example.net>\r\nRCPT TO:<eve@example.net",
        "anna",
        "a b@example.net",
        "<a@example.net>",
        "a@-.net",
        "a@b@",
    ]
    results = outcomes(open_sender(), *bad)
    assert {(r.outcome, r.reason, r.subscription_status) for r in results} == {
        (Outcome.RECIPIENT_GONE, "invalid_address", -40)
    }
    assert not smtp_relay.control.entries()


def test_a_rendered_subject_cannot_begin_another_header(smtp_relay, open_sender):
    content = Content(title="Hi\r\nBcc: eve@example.net\x00\u2028X: y", body="<p>x</p>")
    outcomes(open_sender(), "anna@example.net", content=content)
    mail = mail_of(smtp_relay)
    assert mail["bcc"] is None
    assert mail["subject"] == "Hi Bcc: eve@example.net X: y"


def test_a_message_above_the_servers_limit_is_not_sent(smtp_relay, open_sender):
    smtp_relay.control.settings(max_message_bytes=5_000)
    big, small = outcomes(open_sender(), "a@example.net", content=Content("x", f"<p>{'x' * 9_000}</p>")), None
    assert [(r.outcome, r.reason) for r in big] == [(Outcome.PAYLOAD_REJECTED, "message_too_large")]
    assert small is None
    assert not smtp_relay.control.entries()


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"host": "smtp.example.com/x"}, "host"),
        ({"host": ""}, "host"),
        ({"port": 0}, "port"),
        ({"port": "587"}, "port"),
        ({"security": "ssl"}, "security"),
        ({"security": "none"}, "security"),
        ({"password": ""}, "password"),
        ({"from_address": "x"}, "from_address"),
        ({"from_name": "a\nb"}, "from_name"),
        ({"bounce_address": "민@example.com"}, "bounce_address"),
        ({"track_opens": "yes"}, "track_opens"),
        ({"more": 1}, "more"),
    ],
)
def test_a_malformed_secret_is_refused_with_its_field(smtp_relay, changes, field):
    with pytest.raises(CredentialError) as caught:
        SmtpAdapter().check_secret(smtp_secret(smtp_relay, **changes))
    assert caught.value.field == field


def test_a_server_that_hangs_up_on_everybody_loses_and_doubles_nothing(smtp_relay, open_sender):
    sent = [delivery(f"user{n}@example.net") for n in range(400)]

    def with_a_cut():
        for number, one in enumerate(sent):
            if number == 200:
                smtp_relay.control.disconnect()
            yield one

    results = {result.message_id: result for result in open_sender().send(with_a_cut())}
    assert results.keys() == {one.message_id for one in sent}
    counts = Counter(result.outcome for result in results.values())
    assert counts.keys() <= {Outcome.ACCEPTED, Outcome.UNKNOWN, Outcome.TRANSIENT}
    assert counts[Outcome.UNKNOWN] <= 2  # one for each connection
    assert not smtp_relay.control.duplicates()
    arrived = {entry["token"] for entry in smtp_relay.control.entries(outcome="accepted")}
    assert {one.address for one in sent if results[one.message_id].outcome is Outcome.ACCEPTED} <= arrived
    assert not {one.address for one in sent if results[one.message_id].outcome is Outcome.TRANSIENT} & arrived


def test_attachments_arrive_as_they_were(smtp_relay, open_sender):
    files = (
        Attachment("견적서 " + "긴" * 60 + ".pdf", "application/pdf", bytes(range(256)) * 40),
        Attachment('a"b\r\nX-Evil: 1.txt', "text/html\r\nX: y", b".\r\n..\r\nhello"),
    )
    outcomes(open_sender(), "anna@example.net", content=Content("Hi", "<p>x</p>", attachments=files))
    mail = mail_of(smtp_relay)
    parts = list(mail.iter_attachments())
    assert [part.get_content_type() for part in parts] == ["application/pdf", "application/octet-stream"]
    assert [part.get_payload(decode=True) for part in parts] == [file.content for file in files]
    assert parts[0].get_filename() == files[0].name
    assert parts[1].get_filename() == "a'bX-Evil: 1.txt"
    assert mail.get_body(("html",)).get_content().startswith("<p>x</p>")


@pytest.mark.parametrize("text", [".", ".a\n.\n..b", "x" * 5_000, "끝.\r\n\r\n.", "a\rb", " \n \n", "tab\t \nend "])
def test_any_text_arrives_as_it_was(smtp_relay, open_sender, text):
    content = Content("Hi", text, options={"format": "text", "list_unsubscribe": False})
    outcomes(open_sender(), "anna@example.net", content=content)
    mail = mail_of(smtp_relay)
    expected = text.replace("\r\n", "\n").replace("\r", "\n")
    assert mail.get_content().replace("\r\n", "\n").rstrip("\n") == expected.rstrip("\n")


@pytest.mark.parametrize("part", ["<a ", "<a href='", '<a href="x" ', "<body ", "<!--", "</", "<p>", "<a b=x", "\n."])
def test_a_large_hostile_body_is_read_in_one_go(part):
    body = part * (150_000 // len(part))
    began = time.process_time()
    check_html(body)
    Built(
        Content("Hi", body),
        Author("n@example.com", "", True, True, "https://s.example"),
        LinkMaker("https://s.example"),
    )
    assert time.process_time() - began < 3


def test_only_links_that_lead_somewhere_are_counted(smtp_relay, open_sender):
    body = (
        '<a data-no-track href="https://a.example/">1</a><a href="mailto:x@b.example">2</a><a title=\' href="no"\''
        ' href="https://c.example/?a=1&amp;b=2" class="x">3</a>'
        '<a href="{{ preferences_url }}">4</a><a href="#top">5</a>'
    )
    outcomes(open_sender(), "anna@example.net", content=Content("Hi", body))
    page = mail_of(smtp_relay).get_body(("html",)).get_content()
    assert page.count("/e/c/") == 1
    for kept in ('href="https://a.example/"', "mailto:x@b.example", '" class="x">3', "/e/preferences/", 'href="#top"'):
        assert kept in page
    token = re.search(r"/e/c/([\w-]+)", page)[1]
    assert read_click_token(token).target == "https://c.example/?a=1&b=2"


def test_html_nested_deeper_than_any_stack_ends_no_process():
    program = "import sys; from apps.messaging.adapters.email_building import inlined; print(inlined(sys.stdin.read()))"
    for levels in (300, 15_000, 100_000):
        html = "<style>p{color:red}</style>" + "<div>" * levels + "<p>x"
        done = subprocess.run([sys.executable, "-c", program], input=html, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (levels, done.returncode)
        assert ('style="color: red' in done.stdout) is (levels < 20_000)


def test_html_that_would_take_gigabytes_is_left_as_it_is():
    bomb = "<style>p{}</style>" + "".join(f"<p><b a{n}>x</p>" for n in range(2_000))
    styles = "<style>*{" + "color:red;" * 5_000 + "}</style>" + "<p>x</p>" * 2_000
    for html in (bomb, styles):
        assert inlined(html) == html


@pytest.mark.parametrize("form", ["{}", '<a href="{}">x</a>', '<a href="https://a.example/?u={}">x</a>'])
def test_what_a_text_says_is_none_of_our_marks(form):
    author = Author("n@example.com", "", True, True, "https://s.example")
    for mark in ("https://click.automata-signal.invalid/", "https://click.automata-signal.invalid&#47;"):
        said = "<style>a{}</style>" + form.format(f"{mark}999999/") + " https://pixel.automata-signal.invalid&#47;"
        content = Content("Hi", f"{said}{mark}{'9' * 5_000}/")
        letter = Letter.of(content, author)
        built = Built(content, author, LinkMaker("https://s.example"))
        message = built.message(delivery(), envelope_address("anna@example.net"))
        assert letter.html.count("https://pixel.automata-signal.invalid/") == 1
        assert message.count(b"/e/o/") == 1


class Tarpit:
    """A server that answers as a relay does until `stage`, and then says a byte at a time, for ever."""

    def __init__(self, stage):
        self._stage = stage
        self._server = socket.create_server(("localhost", 0))
        self.port = self._server.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection):
        with connection, connection.makefile("rb") as lines:
            try:
                if self._stage == "greeting":
                    self._drip(connection)
                connection.sendall(b"220 hello\r\n")
                for line in lines:
                    if line[:4].upper() == self._stage.upper().encode():
                        self._drip(connection)
                    connection.sendall(b"250 fine\r\n")
            except OSError:
                return

    def _drip(self, connection):
        if self._stage == "ehlo":
            while True:
                connection.sendall(b"250-x\r\n" * 100)
        while True:
            connection.sendall(b"2")
            time.sleep(0.02)

    def close(self):
        self._server.close()


@pytest.mark.parametrize("stage", ["greeting", "ehlo", "mail"])
def test_a_server_that_never_ends_what_it_says_keeps_no_worker(smtp_relay, open_sender, monkeypatch, stage):
    monkeypatch.setattr(smtp, "OPEN_MAX_S", 0.5)
    tarpit = Tarpit(stage)
    try:
        plain = {"security": "none", "port": tarpit.port, "username": "", "password": ""}
        sender = open_sender(smtp_secret(smtp_relay, **plain), timeout_s=0.4)
        began = time.monotonic()
        (result,) = outcomes(sender, "anna@example.net")
        assert result.outcome is Outcome.TRANSIENT
        assert time.monotonic() - began < 5
    finally:
        tarpit.close()
