"""What can be asked of a stand-in by device token and by the control endpoint."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest

from apps.sandbox.__main__ import behaviour_table
from apps.sandbox.client import ControlError, Sandbox
from apps.sandbox.credentials import ApnsKey
from tests.sandbox.requests import DEVICE, push_body, push_headers
from tests.sandbox.wire import Reply, Wire

Push = Callable[..., Reply]


def begin(wire: Wire, key: ApnsKey, *devices: str) -> list[int]:
    """Open one stream per device, after a first push that has raised the stream limit."""
    headers = push_headers(key)
    assert wire.send("POST", f"/3/device/{DEVICE}", headers, push_body()).status == 200
    streams = [wire.begin("POST", f"/3/device/{device}", headers, push_body()) for device in devices]
    wire.flush()
    return streams


def test_a_hanging_token_gets_no_answer_while_others_do(wire: Wire, apns: Sandbox, apns_key: ApnsKey) -> None:
    hanging, lost, other = begin(wire, apns_key, "dead0001", "dead0002", "ab")
    assert wire.wait(other)[0].status == 200
    assert not wire.wait(hanging, lost, timeout_s=0.2)[0].ended
    assert [entry["outcome"] for entry in apns.control.entries()][1:] == ["dropped", "accepted", "accepted"]


@pytest.mark.parametrize(("device", "code"), [("dead0003", 2), ("dead0004", 7)])
def test_a_stream_is_reset(wire: Wire, apns_key: ApnsKey, device: str, code: int) -> None:
    reset, other = wire.wait(*begin(wire, apns_key, device, "ab"))
    assert reset.reset_code == code
    assert other.status == 200


@pytest.mark.parametrize(("device", "accepted"), [("dead0005", 1), ("dead0006", 2)])
def test_the_connection_is_aborted(wire: Wire, apns: Sandbox, apns_key: ApnsKey, device: str, accepted: int) -> None:
    (stream,) = begin(wire, apns_key, device)
    assert not wire.wait(stream)[0].ended
    assert wire.closed
    assert apns.control.stats()["accepted"] == accepted


def test_goaway_names_the_last_stream_processed(wire: Wire, apns: Sandbox, apns_key: ApnsKey) -> None:
    first, refused, later = begin(wire, apns_key, "ab", "dead0007", "ac")
    replies = wire.wait(first, refused, later)
    assert [reply.status for reply in replies] == [200, 0, 0]
    (last_stream_id, debug), *_ = wire.goaways
    assert last_stream_id == first
    assert orjson.loads(debug)["reason"] == "Shutdown"
    assert wire.wait_closed()
    assert apns.control.stats()["accepted"] == 2


def test_goaway_after_n_requests(wire: Wire, apns: Sandbox, apns_key: ApnsKey) -> None:
    apns.control.settings(goaway_every=3, goaway_reason="BadCertificateEnvironment")
    streams = begin(wire, apns_key, "a1", "a2", "a3", "a4")
    replies = wire.wait(*streams)
    assert [reply.status for reply in replies] == [200, 200, 0, 0]
    assert wire.goaways[0][0] == streams[1]
    assert orjson.loads(wire.goaways[0][1])["reason"] == "BadCertificateEnvironment"


def test_goaway_with_last_stream_0_takes_back_what_was_pending(wire: Wire, apns: Sandbox, apns_key: ApnsKey) -> None:
    headers = push_headers(apns_key)
    assert wire.send("POST", f"/3/device/{DEVICE}", headers, push_body()).status == 200
    apns.control.settings(latency_ms=300, goaway_every=3, goaway_last_stream="zero")
    streams = [wire.begin("POST", f"/3/device/{device}", headers, push_body()) for device in ("a1", "a2")]
    assert [reply.status for reply in wire.wait(*streams)] == [0, 0]
    assert wire.goaways[0][0] == 0
    outcomes = [entry["outcome"] for entry in apns.control.entries()]
    assert outcomes == ["accepted", "withdrawn", "withdrawn"]
    assert apns.control.stats()["accepted"] == 1


def test_a_graceful_goaway_answers_what_is_running(wire: Wire, apns: Sandbox, apns_key: ApnsKey) -> None:
    apns.control.settings(latency_ms=200)
    (stream,) = begin(wire, apns_key, "a1")
    time.sleep(0.05)
    apns.control.goaway()
    assert wire.wait(stream)[0].status == 200
    assert wire.wait_closed()
    assert [last for last, _ in wire.goaways] == [2**31 - 1, stream]


def test_a_slow_token_is_overtaken(wire: Wire, apns_key: ApnsKey) -> None:
    slow, quick = begin(wire, apns_key, "dead2001", "ab")
    wire.wait(slow, quick)
    assert wire.finished[-2:] == [quick, slow]


def test_answers_in_reversed_order(wire: Wire, apns: Sandbox, apns_key: ApnsKey) -> None:
    apns.control.settings(answer_order="reversed")
    streams = begin(wire, apns_key, "a1", "a2", "a3")
    wire.wait(*streams)
    assert wire.finished[-3:] == streams[::-1]


def test_latency_is_mean_and_jitter(push: Push, apns: Sandbox) -> None:
    apns.control.settings(latency_ms=60, jitter_ms=20)
    started = time.monotonic()
    assert push().status == 200
    assert 0.035 < time.monotonic() - started < 1


def test_a_deaf_token_fails_k_times_and_is_then_accepted(push: Push) -> None:
    assert [push("deaf50312abc00").status for _ in range(4)] == [503, 503, 200, 200]


def test_a_rule_by_token_for_the_first_k_requests(push: Push, apns: Sandbox) -> None:
    apns.control.behave("TooManyRequests", token=DEVICE, times=2)
    assert [push().status for _ in range(3)] == [429, 429, 200]
    assert push("ab").status == 200


def test_a_rule_for_the_next_n_requests(push: Push, apns: Sandbox) -> None:
    apns.control.behave("InternalServerError", next=2)
    assert [push().status for _ in range(3)] == [500, 500, 200]


def test_a_rule_by_prefix_with_changed_fields(push: Push, apns: Sandbox) -> None:
    apns.control.behave({"name": "TooManyRequests", "retry_after_s": 77}, prefix="77")
    assert push("7700").headers["retry-after"] == "77"
    assert push("7800").status == 200


def test_a_rule_by_share(push: Push, apns: Sandbox) -> None:
    apns.control.behave("Unregistered", share=0.5)
    statuses = [push().status for _ in range(60)]
    assert 10 < statuses.count(410) < 50
    apns.control.clear_behaviours()
    assert push().status == 200


@pytest.mark.parametrize(("mode", "status"), [("unavailable", 503), ("hang", 0), ("refuse", 0)])
def test_down_modes(apns: Sandbox, apns_key: ApnsKey, mode: str, status: int) -> None:
    apns.control.settings(down=mode)
    with Wire(apns.url, apns.ca_file) as wire:
        stream = wire.begin("POST", f"/3/device/{DEVICE}", push_headers(apns_key), push_body())
        (reply,) = wire.wait(stream, timeout_s=0.3)
        assert reply.status == status
        assert wire.closed is (mode == "refuse")
    assert apns.control.stats()["accepted"] == 0


def test_duplicates_are_counted_by_message_and_token(push: Push, apns: Sandbox) -> None:
    for device in (DEVICE, DEVICE, "ab"):
        push(device)
    assert apns.control.stats()["duplicates"] == 1
    assert apns.control.accepted_by_token(at_least=2) == {DEVICE: 2}
    assert [item["count"] for item in apns.control.duplicates()] == [2]


def test_the_journal_is_read_by_cursor(push: Push, apns: Sandbox) -> None:
    for number in range(5):
        push(f"0{number}")
    page = apns.control.journal(limit=2)
    rest = apns.control.journal(since=page["next"], body=False)
    assert [entry["token"] for entry in page["entries"] + rest["entries"]] == ["00", "01", "02", "03", "04"]
    assert "body" not in rest["entries"][0]
    assert apns.control.journal(since=rest["next"])["entries"] == []


def test_stats_show_concurrency(wire: Wire, apns: Sandbox, apns_key: ApnsKey) -> None:
    wire.wait(*begin(wire, apns_key, *[f"{number:02d}" for number in range(40)]))
    stats = apns.control.stats()
    assert (stats["requests"], stats["accepted"], stats["connections"]) == (41, 41, stats["connections"])
    assert stats["max_concurrent_streams"] == 40


@pytest.mark.parametrize(
    "rule",
    [
        {"behaviour": "Nonsense", "next": 1},
        {"behaviour": "Unregistered"},
        {"behaviour": "Unregistered", "next": 1, "share": 0.5},
        {"behaviour": "Unregistered", "share": 2},
        {"behaviour": "Unregistered", "next": 1, "colour": "red"},
    ],
)
def test_a_wrong_rule_is_refused(apns: Sandbox, rule: dict[str, object]) -> None:
    with pytest.raises(ControlError, match="400"):
        apns.control.behave(**rule)  # type: ignore[arg-type]


@pytest.mark.parametrize("setting", [{"latency": 1}, {"down": "asleep"}, {"latency_ms": -1}, {"stream_limit": 0}])
def test_a_wrong_setting_is_refused(apns: Sandbox, setting: dict[str, object]) -> None:
    with pytest.raises(ControlError, match="400"):
        apns.control.settings(**setting)


def test_the_readme_shows_the_tables_as_they_are() -> None:
    readme = Path(__file__).parents[2] / "apps" / "sandbox" / "README.md"
    assert behaviour_table() in readme.read_text(encoding="utf-8")
