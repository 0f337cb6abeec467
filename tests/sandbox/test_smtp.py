"""The mail relay over real connections: what it takes, what it refuses, and what becomes of a connection."""

from __future__ import annotations

import smtplib
import socket
import ssl
from collections.abc import Callable, Iterator
from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path

import pytest

from apps.sandbox.client import Sandbox, running_sandbox

ACCOUNT = {"username": "shop", "password": "secret", "domains": ["example.com"]}
SENDER = "news@example.com"
GOOD = (
    b"From: Shop <news@example.com>\r\nTo: anna@example.net\r\nDate: Mon, 02 Nov 2026 10:00:00 +0900\r\n"
    b"Message-ID: <1@example.com>\r\nSubject: Hi\r\nMIME-Version: 1.0\r\n"
    b"List-Unsubscribe: <https://example.com/u/1>, <mailto:u@example.com>\r\n"
    b"List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\n\r\nHello\r\n"
)


@pytest.fixture(scope="session")
def smtp_process(ca_dir: Path) -> Iterator[Sandbox]:
    with running_sandbox("smtp", ca_dir=ca_dir) as sandbox:
        yield sandbox


@pytest.fixture
def relay(smtp_process: Sandbox) -> Sandbox:
    smtp_process.control.reset()
    smtp_process.control.register_keys(ACCOUNT)
    return smtp_process


def port_of(url: str) -> int:
    return int(url.rsplit(":", 1)[1])


def trusting(sandbox: Sandbox) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(sandbox.ca_file))


@pytest.fixture
def client(relay: Sandbox) -> Iterator[smtplib.SMTP]:
    """A connection that has logged in, over TLS from the first byte."""
    with smtplib.SMTP_SSL("localhost", port_of(relay.tls_url), timeout=10, context=trusting(relay)) as connection:
        connection.login("shop", "secret")
        yield connection
        connection.close()


def refusal(send: Callable[[], object]) -> str:
    """The answer to the message."""
    with pytest.raises(smtplib.SMTPDataError) as caught:
        send()
    return f"{caught.value.smtp_code} {bytes(caught.value.smtp_error).decode()}"  # type: ignore[arg-type]


def sent_raw(client: smtplib.SMTP, content: bytes, *options: str) -> str:
    """The answer to a message whose bytes are left alone; `sendmail` would repair its line ends."""
    client.mail(SENDER, options)
    client.rcpt("anna@example.net")
    client.putcmd("data")
    client.getreply()
    client.send(content + (b"" if content.endswith(b"\r\n") else b"\r\n") + b".\r\n")
    code, text = client.getreply()
    return f"{code} {text.decode()}"


def test_it_speaks_starttls_and_lets_nobody_in_without_it(relay: Sandbox) -> None:
    with smtplib.SMTP("localhost", port_of(relay.url), timeout=10) as client:
        client.ehlo()
        assert {"starttls", "pipelining", "8bitmime", "smtputf8", "size"} <= client.esmtp_features.keys()
        assert "auth" not in client.esmtp_features
        assert client.docmd("AUTH", "PLAIN AHNob3AAc2VjcmV0")[0] == 538
        assert client.mail(SENDER)[0] == 530
        client.starttls(context=trusting(relay))
        assert client.mail(SENDER)[0] == 503, "EHLO again after STARTTLS"
        client.ehlo()
        assert client.esmtp_features["auth"].split() == ["LOGIN", "PLAIN"]
        with pytest.raises(smtplib.SMTPAuthenticationError):
            client.login("shop", "wrong")
        client.login("shop", "secret")
        assert client.sendmail(SENDER, ["anna@example.net"], GOOD) == {}


def test_a_message_stands_in_the_journal_with_its_envelope(relay: Sandbox, client: smtplib.SMTP) -> None:
    message = EmailMessage(policy=SMTP)
    message["From"], message["To"], message["Subject"] = "샵 <news@example.com>", "anna@example.net", "안녕"
    message["Date"], message["Message-ID"] = "Mon, 02 Nov 2026 10:00:00 +0900", "<2@example.com>"
    message["X-Automata-Message-Id"] = "0198c0de"
    message.set_content("본문", cte="base64")
    client.sendmail(SENDER, ["anna@example.net", "bert@example.net"], bytes(message))
    first, second = relay.control.entries(outcome="accepted")
    assert (first["token"], second["token"]) == ("anna@example.net", "bert@example.net")
    assert first["message_id"] == "0198c0de"
    assert first["headers"]["envelope-from"] == SENDER
    assert first["headers"]["envelope-to"] == "anna@example.net, bert@example.net"
    assert first["headers"]["subject"].startswith("=?utf-8?")
    assert first["body"].encode() == bytes(message)


def changed(old: bytes, new: bytes) -> bytes:
    assert old in GOOD
    return GOOD.replace(old, new)


@pytest.mark.parametrize(
    ("content", "answer"),
    [
        (changed(b"Hello\r\n", b"Hel\nlo\r\n"), "550 5.6.11"),
        (changed(b"Hello\r\n", b"Hel\rlo\r\n"), "550 5.6.11"),
        (changed(b"Hello", b"x" * 999), "550 5.6.0 Line too long"),
        (changed(b"Hello", b"Hel\0lo"), "550 5.6.0 Message contains NUL"),
        (changed(b"Date: Mon, 02 Nov 2026 10:00:00 +0900\r\n", b""), "550 5.7.1 Message has no Date"),
        (changed(b"Date: Mon, 02 Nov 2026 10:00:00 +0900", b"Date: soon"), "550 5.7.1 Date"),
        (changed(b"From: Shop <news@example.com>\r\n", b""), "550 5.7.1 Message has no From"),
        (changed(b"Message-ID: <1@example.com>\r\n", b""), "550 5.7.1 Message has no Message-Id"),
        (changed(b"<1@example.com>", b"1"), "550 5.7.1 Message-ID"),
        (changed(b"To: anna", b"From: eve@example.com\r\nTo: anna"), "550 5.7.1 Message has more than one From"),
        (changed(b"Subject: Hi", b"Subject: Hi\r\nSubject: Ho"), "550 5.7.1 Message has more than one Subject"),
        (changed(b"<news@example.com>", b"<news@example.org>"), "550 5.7.1 Sender domain"),
        (changed(b"Subject: Hi", "Subject: 안녕".encode()), "550 5.6.7"),
        (changed(b"Hello", "안녕".encode()), "554 5.6.3"),
        (changed(b"Subject: Hi", b"Subject Hi"), "550 5.6.0 Malformed header"),
        (changed(b"<https://example.com/u/1>, ", b""), "550 5.7.1 List-Unsubscribe has"),
        (changed(b"<https://example.com/u/1>", b"<http://example.com/u/1>"), "550 5.7.1 List-Unsubscribe has"),
        (changed(b"=One-Click", b"=Yes"), "550 5.7.1 List-Unsubscribe-Post"),
        (changed(b"text/plain; charset=utf-8", b"multipart/mixed"), "550 5.6.0 Malformed MIME"),
        (GOOD, "250 2.0.0 Ok: queued as"),
    ],
)
def test_a_malformed_message_is_refused(client: smtplib.SMTP, content: bytes, answer: str) -> None:
    assert sent_raw(client, content).startswith(answer)


def test_eight_bits_are_taken_where_the_envelope_says_so(client: smtplib.SMTP) -> None:
    content = changed(b"Hello", "안녕".encode())
    assert sent_raw(client, content, "BODY=8BITMIME").startswith("250")
    content = content.replace(b"Subject: Hi", "Subject: 안녕".encode())
    assert sent_raw(client, content, "BODY=8BITMIME", "SMTPUTF8").startswith("250")


def test_the_envelope_is_checked_too(relay: Sandbox, client: smtplib.SMTP) -> None:
    assert client.mail("news@example.org")[0] == 553
    relay.control.settings(max_recipients=1)
    client.mail(SENDER)
    assert client.rcpt("anna@example.net")[0] == 250
    assert client.rcpt("bert@example.net") == (452, b"4.5.3 Too many recipients")
    client.rset()
    assert client.docmd(f"MAIL FROM:<{SENDER}> SIZE=99999999")[0] == 552


@pytest.mark.parametrize(
    ("local", "answer"),
    [
        ("anna+550-5.1.1", (550, b"5.1.1 <")),
        ("anna+452-4.2.2", (452, b"4.2.2 <")),
        ("anna+550", (550, b"Requested action")),
        ("anna+554-5.7.99", (554, b"5.7.99")),
        ("anna+accepted", (250, b"2.1.5")),
    ],
)
def test_each_recipient_gets_the_answer_that_its_address_asks_for(
    client: smtplib.SMTP, local: str, answer: tuple[int, bytes]
) -> None:
    client.mail(SENDER)
    code, text = client.rcpt(f"{local}@example.net")
    assert (code, text.startswith(answer[1])) == (answer[0], True)


def test_some_recipients_are_refused_and_the_others_get_the_message(relay: Sandbox, client: smtplib.SMTP) -> None:
    refused = client.sendmail(SENDER, ["anna@example.net", "bert+550-5.2.1@example.net"], GOOD)
    assert refused.keys() == {"bert+550-5.2.1@example.net"}
    assert relay.control.accepted_by_token() == {"anna@example.net": 1}


def test_a_rule_and_a_number_of_tries(relay: Sandbox, client: smtplib.SMTP) -> None:
    relay.control.behave("450-4.7.1", token="anna@example.net", times=1)
    answers = []
    for address in ["anna@example.net", "anna@example.net", *["bert+451-4.3.0~2@example.net"] * 3]:
        client.mail(SENDER)
        answers.append(client.rcpt(address)[0])
        client.rset()
    assert answers == [450, 250, 451, 451, 250]


def test_a_message_may_be_refused_after_it_was_read(client: smtplib.SMTP) -> None:
    text = refusal(lambda: client.sendmail(SENDER, ["anna+data-554-5.7.1@example.net"], GOOD))
    assert text.startswith("554 5.7.1")
    assert client.sendmail(SENDER, ["anna@example.net"], GOOD) == {}


@pytest.mark.parametrize(
    ("local", "outcome"),
    [
        ("a+abort-rcpt", "dropped"),
        ("a+abort-data", "dropped"),
        ("a+abort", "dropped"),
        ("a+abort-accepted", "accepted"),
    ],
)
def test_a_connection_may_break_at_each_point(relay: Sandbox, client: smtplib.SMTP, local: str, outcome: str) -> None:
    with pytest.raises((smtplib.SMTPServerDisconnected, OSError)):
        client.sendmail(SENDER, [f"{local}@example.net"], GOOD)
    (entry,) = relay.control.entries()
    assert (entry["outcome"], entry["status"]) == (outcome, 0)


def test_421_ends_the_connection(client: smtplib.SMTP) -> None:
    client.mail(SENDER)
    assert client.rcpt("anna+421-4.7.0@example.net")[0] == 421
    with pytest.raises((smtplib.SMTPServerDisconnected, OSError)):
        client.noop()


def test_a_connection_carries_so_many_messages(relay: Sandbox, client: smtplib.SMTP) -> None:
    relay.control.settings(messages_per_connection=1)
    client.sendmail(SENDER, ["anna@example.net"], GOOD)
    assert client.mail(SENDER)[0] == 421


def test_an_idle_connection_is_closed(relay: Sandbox) -> None:
    relay.control.settings(idle_timeout_s=0.05)
    with socket.create_connection(("localhost", port_of(relay.url)), timeout=5) as plain:
        assert plain.recv(100).startswith(b"220")
        assert plain.recv(100) == b""


@pytest.mark.parametrize(
    ("changes", "first"),
    [({"down": "unavailable"}, b"421 4.3.2"), ({"down": "refuse"}, b""), ({"max_connections": 1}, b"421 4.7.0")],
)
def test_a_relay_that_is_down_or_full(
    relay: Sandbox, client: smtplib.SMTP, changes: dict[str, object], first: bytes
) -> None:
    relay.control.settings(**changes)
    with socket.create_connection(("localhost", port_of(relay.url)), timeout=5) as plain:
        try:
            answer = plain.recv(100)
        except ConnectionResetError:
            answer = b""
    assert answer[:9] == first


def test_the_fast_form_counts_pipelined_messages(ca_dir: Path) -> None:
    with running_sandbox("smtp", ca_dir=ca_dir, arguments=("--fast",)) as sandbox:
        sandbox.control.register_keys(ACCOUNT)
        with smtplib.SMTP("localhost", port_of(sandbox.url), timeout=10) as client:
            client.starttls(context=trusting(sandbox))
            with pytest.raises(smtplib.SMTPAuthenticationError):
                client.login("shop", "wrong")
            client.login("shop", "secret")
            assert client.sendmail(SENDER, ["a@example.net", "b+550-5.1.1@example.net"], GOOD).keys() == {
                "b+550-5.1.1@example.net"
            }
            client.send(b"MAIL FROM:<%b>\r\nRCPT TO:<a@example.net>\r\nDATA\r\n" % SENDER.encode())
            assert [client.getreply()[0] for _ in range(3)] == [250, 250, 354]
            client.send(GOOD + b".\r\nMAIL FROM:<a@example.com>\r\n")
            assert [client.getreply()[0] for _ in range(2)] == [250, 250]
            client.send(b"RCPT TO:<a@example.net>\r\nDATA\r\n")
            assert [client.getreply()[0] for _ in range(2)] == [250, 354]
            client.send(b".\r\nQUIT\r\n")
            assert [client.getreply()[0] for _ in range(2)] == [250, 221]
        assert sandbox.control.stats()["outcomes"] == {"refused": 1, "accepted": 3}
