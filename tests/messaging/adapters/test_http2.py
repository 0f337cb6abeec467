"""The HTTP/2 client: one answer for each request, whatever becomes of connections and streams."""

from __future__ import annotations

import os
import resource
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from apps.messaging.adapters.http2 import Answer, Failure, Http2Client, Request
from tests.messaging.adapters.fast_peer import running_fast_peer
from tests.messaging.adapters.peer import Abort, Action, GoAway, Hang, Peer, Reply, Reset, Seen

HEADERS = [b"content-type: application/json"]
OpenClient = Callable[..., Http2Client]


@pytest.fixture
def client(peer: Peer) -> Iterator[OpenClient]:
    clients: list[Http2Client] = []

    def make(**changes: Any) -> Http2Client:
        options = {"ca_file": peer.ca_file, "connections": 1, "streams": 100, "timeout_s": 5.0}
        clients.append(Http2Client(**{**options, **changes}))
        return clients[-1]

    yield make
    for made in clients:
        made.close()


def requests_to(peer: Peer, count: int) -> Iterator[Request[int]]:
    for number in range(count):
        yield Request(number, peer.url, b"/send", HEADERS, b"%06d" % number)


def at_request(nth: int, action: Action, otherwise: Action) -> Callable[[Seen], Action]:
    """`action` for the n-th request the peer sees, `otherwise` for the rest."""
    seen = Counter[str]()

    def answer(_: Seen) -> Action:
        seen["all"] += 1
        return action if seen["all"] == nth else otherwise

    return answer


def kinds(answers: list[Answer[int]]) -> Counter[int | Failure]:
    return Counter(answer.failure or answer.status for answer in answers)


def exactly_once_each(answers: list[Answer[int]], count: int) -> bool:
    return sorted(answer.request.tag for answer in answers) == list(range(count))


def seen_twice(peer: Peer) -> int:
    return sum(times > 1 for times in Counter(peer.bodies()).values())


def test_each_request_gets_its_own_answer(peer, client):
    peer.answer = lambda seen: Reply(201, {"retry-after": "3"}, seen.body)
    answers = list(client().exchange(requests_to(peer, 500)))
    assert exactly_once_each(answers, 500)
    assert all(a.body == b"%06d" % a.request.tag and a.status == 201 and a.retry_after_s == 3 for a in answers)
    assert peer.connections == 1


def test_answers_come_in_the_order_the_provider_gives_them(peer, client):
    peer.answer = lambda seen: Reply(after_s=0.3 - 0.05 * int(seen.body))
    answers = list(client().exchange(requests_to(peer, 5)))
    assert [a.request.tag for a in answers if a.request.tag] == [4, 3, 2, 1]


def test_connections_stay_open_across_exchanges(peer, client):
    kept = client()
    for _ in range(3):
        assert kinds(list(kept.exchange(requests_to(peer, 10)))) == {200: 10}
    assert peer.connections == 1


def test_a_body_larger_than_a_frame_arrives_whole(peer, client):
    body = os.urandom(100_000)
    (answer,) = client().exchange([Request(1, peer.url, b"/send", HEADERS, body)])
    assert answer.status == 200
    assert peer.bodies() == [body]


def test_no_more_is_taken_than_can_be_in_flight(peer, client):
    peer.answer = lambda _: Hang()
    taken: list[int] = []

    def source() -> Iterator[Request[int]]:
        for request in requests_to(peer, 1000):
            taken.append(request.tag)
            yield request

    exchange = client(connections=2, streams=10, timeout_s=1.0).exchange(source())
    next(exchange)
    exchange.close()
    assert len(taken) == 20


def test_a_source_that_has_nothing_yet_is_asked_again(peer, client):
    ready_at = time.monotonic() + 0.3
    asked = Counter[str]()

    def source() -> Iterator[Request[int] | None]:
        yield Request(1, peer.url, b"/send", HEADERS, b"1")
        while time.monotonic() < ready_at:
            asked["idle"] += 1
            yield None
        yield Request(2, peer.url, b"/send", HEADERS, b"2")

    answers = list(client().exchange(source()))
    assert [a.request.tag for a in answers] == [1, 2]
    assert asked["idle"] < 40


def test_an_answer_in_the_place_of_a_request_is_passed_on(peer, client):
    ready = Answer(Request(7, "", b"", (), b""), 0, None, b"")
    assert list(client().exchange([ready])) == [ready]
    assert peer.connections == 0


def test_waiting_costs_no_cpu(peer, client):
    peer.answer = lambda _: Reply(after_s=1.0)
    waiting = client()
    before = time.thread_time()
    assert kinds(list(waiting.exchange(requests_to(peer, 5)))) == {200: 5}
    assert time.thread_time() - before < 0.2


def test_more_than_1024_open_files_do_not_matter(peer, client):
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limits[1] != resource.RLIM_INFINITY and limits[1] < 2048:
        pytest.skip("too few open files allowed here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(limits[0], 2048), limits[1]))
    files = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
    try:
        peer.answer = lambda _: Reply(after_s=0.5)
        before = time.thread_time()
        assert kinds(list(client().exchange(requests_to(peer, 5)))) == {200: 5}
        assert time.thread_time() - before < 0.2
    finally:
        for fd in files:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_what_is_in_flight_is_answered_before_the_source_s_error_goes_on(peer, client):
    def source() -> Iterator[Request[int]]:
        yield from requests_to(peer, 5)
        raise LookupError("the source broke")

    answers: list[Answer[int]] = []
    exchange = client().exchange(source())
    with pytest.raises(LookupError):
        answers.extend(exchange)
    assert exactly_once_each(answers, 5)


def test_a_second_exchange_at_the_same_time_is_refused(peer, client):
    one = client()
    peer.answer = lambda _: Reply(after_s=0.1)
    first = one.exchange(requests_to(peer, 2))
    next(first)
    with pytest.raises(RuntimeError):
        next(one.exchange(requests_to(peer, 1)))
    assert len(list(first)) == 1


def test_an_exchange_that_was_given_up_leaves_the_client_usable(peer, client):
    one = client()
    peer.answer = at_request(1, Reply(), Hang())
    exchange = one.exchange(requests_to(peer, 10))
    next(exchange)
    exchange.close()
    peer.answer = lambda _: Reply()
    assert kinds(list(one.exchange(requests_to(peer, 10)))) == {200: 10}


# --- Stream limits ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("connections", [1, 4])
def test_a_limit_of_one_stream_that_grows_to_a_hundred_is_followed(peer, client, connections):
    """APNs: one stream until it has seen a valid token. The peer ends a connection with a stream too many."""
    peer.streams, peer.streams_after_first = 1, 100
    peer.answer = lambda _: Reply(after_s=0.02)
    answers = list(client(connections=connections).exchange(requests_to(peer, 500)))
    assert exactly_once_each(answers, 500)
    assert kinds(answers) == {200: 500}
    assert 10 < peer.most_open <= 100


@pytest.mark.parametrize("streams", [1, 5])
def test_a_low_limit_is_never_exceeded(peer, client, streams):
    peer.streams = streams
    answers = list(client(connections=2).exchange(requests_to(peer, 300)))
    assert kinds(answers) == {200: 300}
    assert peer.most_open <= streams


# --- Connections that end ----------------------------------------------------------------------------------------


def test_an_aborted_connection_with_100_in_flight_gives_100_answers_and_sends_none_twice(peer, client):
    """What was in flight at the abort is unknown: some of it had arrived, so nothing is sent again."""
    peer.answer = at_request(150, Abort(), Reply(after_s=0.05))
    answers = list(client().exchange(requests_to(peer, 300)))
    assert exactly_once_each(answers, 300)
    unknown = {a.request.tag for a in answers if a.failure is Failure.UNKNOWN}
    assert 1 <= len(unknown) <= 100
    assert kinds(answers) == {200: 300 - len(unknown), Failure.UNKNOWN: len(unknown)}
    assert seen_twice(peer) == 0


def test_a_connection_closed_without_goaway_leaves_no_doubt_behind(peer, client):
    """Closed in an orderly way, with requests unanswered: the answers say so, and nothing is sent twice."""
    peer.answer = at_request(150, GoAway(last_stream=2**31 - 1, reply=None, close_after_s=0.0), Reply(after_s=0.05))
    answers = list(client().exchange(requests_to(peer, 300)))
    assert exactly_once_each(answers, 300)
    assert set(kinds(answers)) <= {200, Failure.UNKNOWN}
    assert seen_twice(peer) == 0


def test_what_a_goaway_says_was_not_looked_at_is_sent_again_at_once(peer, client):
    def answer(seen: Seen) -> Action:
        if seen.connection == 1 and seen.stream == 101:
            return GoAway(last_stream=101, reply=Reply(after_s=0.0), close_after_s=None)
        return Reply(after_s=0.02)

    peer.answer = answer
    answers = list(client().exchange(requests_to(peer, 300)))
    assert exactly_once_each(answers, 300)
    assert kinds(answers) == {200: 300}
    assert peer.connections == 2


@pytest.mark.parametrize("connections", [1, 4])
def test_goaway_every_50_requests_loses_nothing(peer, client, connections):
    """Refused time and again, a request is given up after five tries: then it was not sent, not lost."""
    peer.answer = lambda seen: GoAway() if seen.stream == 99 else Reply(after_s=0.005)
    answers = list(client(connections=connections).exchange(requests_to(peer, 1000)))
    assert exactly_once_each(answers, 1000)
    accepted = {a.request.tag for a in answers if a.status == 200}
    assert {int(body) for body in peer.bodies()} >= accepted
    assert seen_twice(peer) == 0
    assert set(kinds(answers)) <= {200, Failure.NOT_SENT}
    assert len(accepted) >= 900


def test_a_refused_stream_is_sent_again(peer, client):
    """RST_STREAM REFUSED_STREAM: certainly not processed (RFC 9113 section 8.7)."""
    peer.answer = at_request(20, Reset(7), Reply(after_s=0.02))
    answers = list(client().exchange(requests_to(peer, 50)))
    assert kinds(answers) == {200: 50}
    assert len(peer.requests) == 51


def test_a_reset_stream_is_unknown_and_harms_no_other(peer, client):
    peer.answer = at_request(20, Reset(2), Reply(after_s=0.02))
    answers = list(client().exchange(requests_to(peer, 50)))
    assert kinds(answers) == {200: 49, Failure.UNKNOWN: 1}
    assert peer.connections == 1
    assert seen_twice(peer) == 0


# --- Time-outs ---------------------------------------------------------------------------------------------------


def test_a_request_without_an_answer_ends_at_its_time_out(peer, client):
    peer.answer = at_request(20, Hang(), Reply(after_s=0.02))
    started = time.monotonic()
    answers = list(client(timeout_s=0.5).exchange(requests_to(peer, 50)))
    assert 0.4 < time.monotonic() - started < 3
    assert kinds(answers) == {200: 49, Failure.UNKNOWN: 1}
    assert [a.reason for a in answers if a.failure] == ["operation_timedout"]
    assert peer.connections == 1


def test_a_caller_that_is_away_for_longer_than_the_time_out_loses_no_answer(peer, client):
    """Recording may have to wait for the database while a hundred requests are in flight."""
    peer.answer = at_request(1, Reply(), Reply(after_s=0.1))
    one = client(timeout_s=0.6)
    exchange = one.exchange(requests_to(peer, 101))
    answers = [next(exchange)]
    time.sleep(1.5)
    answers += exchange
    assert kinds(answers) == {200: 101}
    peer.answer = lambda _: Hang()
    started = time.monotonic()
    assert 200 not in kinds(list(one.exchange(requests_to(peer, 100))))
    assert time.monotonic() - started < 2.5


def test_a_connection_that_fell_silent_is_left(peer, client):
    peer.answer = lambda seen: Hang() if seen.connection == 1 and seen.stream > 1 else Reply()
    one = client(timeout_s=0.5)
    assert kinds(list(one.exchange(requests_to(peer, 21)))) == {200: 1, Failure.UNKNOWN: 20}
    assert kinds(list(one.exchange(requests_to(peer, 20)))) == {200: 20}
    assert peer.connections == 2


# --- No connection at all ----------------------------------------------------------------------------------------


def test_a_refused_connection_is_not_sent(client):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        url = f"https://127.0.0.1:{listener.getsockname()[1]}"
    answers = list(client().exchange(Request(n, url, b"/send", HEADERS, b"x") for n in range(20)))
    assert exactly_once_each(answers, 20)
    assert {(a.failure, a.reason) for a in answers} == {(Failure.NOT_SENT, "couldnt_connect")}


def test_an_unknown_host_is_not_sent(client):
    answers = list(client().exchange(Request(n, "https://no.invalid", b"/send", HEADERS, b"x") for n in range(20)))
    assert exactly_once_each(answers, 20)
    assert {a.failure for a in answers} == {Failure.NOT_SENT}


def test_a_certificate_of_another_authority_is_not_sent(peer, client, tmp_path):
    from tests.messaging.adapters.peer import make_certificates

    _, other_authority = make_certificates(tmp_path)
    answers = list(client(ca_file=str(other_authority)).exchange(requests_to(peer, 20)))
    assert exactly_once_each(answers, 20)
    assert {(a.failure, a.reason) for a in answers} == {(Failure.NOT_SENT, "peer_failed_verification")}
    assert peer.requests == []


def test_a_peer_that_accepts_and_says_nothing_is_not_sent(client):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"https://127.0.0.1:{listener.getsockname()[1]}"
        answers = list(client(timeout_s=0.5).exchange(Request(n, url, b"/send", HEADERS, b"x") for n in range(3)))
    assert exactly_once_each(answers, 3)
    assert {a.failure for a in answers} == {Failure.NOT_SENT}


def test_a_failure_names_the_host_in_the_log_but_not_the_path(client, caplog):
    list(client().exchange([Request(1, "https://no.invalid", b"/3/device/secret-token", HEADERS, b"x")]))
    assert "https://no.invalid" in caplog.text
    assert "secret-token" not in caplog.text


# --- Processes and memory ----------------------------------------------------------------------------------------


def test_a_child_process_makes_connections_of_its_own(peer, client):
    one = client()
    assert kinds(list(one.exchange(requests_to(peer, 5)))) == {200: 5}
    child = os.fork()
    if child == 0:
        try:
            fine = kinds(list(one.exchange(requests_to(peer, 5)))) == {200: 5}
            one.close()
        except BaseException:
            fine = False
        os._exit(0 if fine else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert peer.connections == 2
    assert kinds(list(one.exchange(requests_to(peer, 5)))) == {200: 5}
    assert peer.connections == 2


def test_memory_stays_flat_over_100_000_requests(certificates):
    with running_fast_peer(*certificates) as (url, ca_file):
        one = Http2Client(ca_file=ca_file, connections=2, streams=100)

        def run(count: int) -> int:
            answers = one.exchange(Request(n, url, b"/send/%d" % n, [b"n: %d" % n], b"x" * 200) for n in range(count))
            assert sum(answer.status == 200 for answer in answers) == count
            return resident_bytes()

        before = run(10_000)
        after = run(100_000)
        one.close()
    assert after - before < 2_000_000


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def test_threads_have_clients_of_their_own(peer, client):
    results: list[Counter[int | Failure]] = []
    clients = [client() for _ in range(4)]
    threads = [
        threading.Thread(target=lambda c=c: results.append(kinds(list(c.exchange(requests_to(peer, 100))))))
        for c in clients
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [Counter({200: 100})] * 4
