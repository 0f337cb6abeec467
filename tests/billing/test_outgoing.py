"""Requests to addresses that others chose reach the public internet only, and end in time."""

from __future__ import annotations

import ipaddress
import socket
import threading
import time

import pytest

from automata_signal import outgoing
from automata_signal.outgoing import OutgoingFailed, OutgoingRefused
from tests.billing.hooks import receiver

INNER = (
    *("127.0.0.1", "127.1.2.3", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "169.254.169.254"),
    *("192.0.2.1", "198.18.0.1", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255"),
    *("::", "::1", "fe80::1", "fd00::1", "fc00::1", "ff02::1", "2001:db8::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1"),
    *("64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::", "2002:a9fe:a9fe::1", "2001:0:1::1"),
    *("fec0::1", "192.0.0.192"),
)


@pytest.mark.parametrize("address", INNER)
def test_an_inner_address_is_not_public(address):
    assert not outgoing.is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "8.8.8.8", "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]
)
def test_an_address_of_the_internet_is_public(address):
    assert outgoing.is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "url",
    [
        *("http://example.com/", "ftp://example.com/", "file:///etc/passwd", "gopher://example.com", "example.com", ""),
        *(
            "https://",
            "https:///x",
            "https://user@example.com/",
            "https://user:pw@example.com/",
            "https://example.com/#x",
        ),
        *(
            "https://example.com:25/",
            "https://example.com:6379/",
            "https://example.com:0/",
            "https://example.com:99999/",
        ),
        *(
            "https://exa mple.com/",
            "https://example.com/\r\nX: y",
            "https://example.com\\@127.0.0.1/",
            "https://[::1]/",
        ),
        *("https://127.0.0.1/", "https://169.254.169.254/latest/meta-data/", "https://[::ffff:127.0.0.1]/"),
        *("https://[2606:4700::1111%é]/", "https://[2606:4700::1111%eth0]/"),
        *("https://[fe80::1%25eth0]/", "https://10.0.0.1:8443/", "https://" + "a" * 600 + ".com/"),
    ],
)
def test_such_an_address_is_refused_when_it_is_chosen(url):
    with pytest.raises(OutgoingRefused):
        outgoing.check_url(url)


@pytest.mark.parametrize("url", ["https://example.com", "https://example.com:8443/a?b=c", "https://bücher.example/x"])
def test_a_plain_address_is_taken(url):
    outgoing.check_url(url)


@pytest.mark.parametrize("host", ["localhost", "127.1", "2130706433", "0x7f.1", "017700000001"])
def test_a_name_or_spelling_of_an_inner_address_is_refused_when_it_is_called(host):
    """Only the resolver knows what these are; it is asked once, and what it says is checked."""
    with pytest.raises((OutgoingRefused, OutgoingFailed)) as refusal:
        outgoing.post(f"https://{host}/", b"{}", {})
    assert "127.0.0.1" not in str(refusal.value)


def test_one_inner_address_among_public_ones_refuses_the_name(monkeypatch):
    """A resolver that answers as an attacker's would; there is no such name to ask for here."""
    both = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 443)) for address in ("8.8.8.8", "10.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: both)
    with pytest.raises(OutgoingRefused):
        outgoing.resolved("rebind.example", 443)


def test_the_connection_goes_to_the_address_that_was_checked(monkeypatch, settings):
    """The name resolves once: what a second answer would be is never asked."""
    settings.OUTGOING_ALLOW_PRIVATE = True
    with receiver() as there:
        port = int(there.address.rsplit(":", 1)[1].split("/")[0])
        asked = []
        real = socket.getaddrinfo

        def resolver(host, *args, **kwargs):
            asked.append(host)
            return real("127.0.0.1" if host == "hook.example" else host, *args, **kwargs)

        monkeypatch.setattr(socket, "getaddrinfo", resolver)
        answer = outgoing.post(f"http://hook.example:{port}/x?y=1", b'{"a": 1}', {"Content-Type": "application/json"})
        assert answer.is_success
        assert asked.count("hook.example") == 1
        [(headers, body)] = there.got
        assert headers["host"] == f"hook.example:{port}"
        assert (headers["content-type"], body) == ("application/json", b'{"a": 1}')


def test_a_redirect_is_an_answer_and_is_not_followed(settings):
    settings.OUTGOING_ALLOW_PRIVATE = True
    with receiver() as there, receiver() as inner:
        there.answer, there.headers_sent = 307, {"Location": inner.address}
        answer = outgoing.post(there.address, b"{}", {})
        assert (answer.status, answer.is_success, inner.got) == (307, False, [])


def test_a_server_that_never_answers_is_left_in_time(settings):
    settings.OUTGOING_ALLOW_PRIVATE = True
    with receiver() as there:
        there.hold = threading.Event()
        began = time.monotonic()
        with pytest.raises(OutgoingFailed, match="in time"):
            outgoing.post(there.address, b"{}", {}, timeout_s=0.5)
        assert time.monotonic() - began < 3


def test_a_server_that_sends_a_byte_now_and_then_is_left_in_time(settings):
    settings.OUTGOING_ALLOW_PRIVATE = True
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def drip() -> None:
            connection, _ = server.accept()
            with connection:
                for byte in b"HTTP/1.1 200 OK\r\nX-Slow: " + b"a" * 1_000:
                    try:
                        connection.send(bytes([byte]))
                    except OSError:
                        return
                    if over.wait(0.05):
                        return

        thread = threading.Thread(target=drip)
        thread.start()
        began = time.monotonic()
        with pytest.raises(OutgoingFailed, match="in time"):
            outgoing.post(f"http://127.0.0.1:{server.getsockname()[1]}/", b"{}", {}, timeout_s=1.0)
        assert time.monotonic() - began < 4
        over.set()
        thread.join()


def test_a_refused_connection_tells_nothing_of_the_network(settings):
    settings.OUTGOING_ALLOW_PRIVATE = True
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(OutgoingFailed) as failure:
        outgoing.post(f"http://127.0.0.1:{port}/", b"{}", {})
    assert str(failure.value) == "the server could not be reached"
