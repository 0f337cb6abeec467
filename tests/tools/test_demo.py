"""The demo's sums: when it says that all messages are accounted for, and when not."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from automata_signal.ids import new_range
from tools.demo import (
    Api,
    Journal,
    Outcome,
    ScenarioError,
    discrepancies,
    is_settled,
    made_at,
    quantile,
    refusal,
    table,
)

BY_STATUS = {"pending": 0, "errored": 0, "successful": 1, "received": 1, "converted": 1, "failed": 1}
STATS = {
    "status": "completed",
    "total": 4,
    "successful": 3,
    "failed": 1,
    "received": 2,
    "converted": 1,
    "by_status": BY_STATUS,
    "failures": {"Unregistered": 1},
    "fanout_done": True,
}


def message_ids(count: int) -> list[str]:
    ids = new_range(unix_ms=1_000_000)
    return [str(ids.at(position)) for position in range(count)]


def outcome(**stats) -> Outcome:
    ids = message_ids(4)
    journal = Journal(
        accepted=Counter(ids[:3]), refused=Counter(ids[3:]), arrived_at={id_: 1_000.5 + i for i, id_ in enumerate(ids)}
    )
    devices = {"received_posted": 2, "converted_posted": 1, "calls": 1}
    return Outcome(4, {**STATS, **stats}, journal, 1_000.0, 1_002.0, devices, (2, 1), 1, "http://127.0.0.1/admin/")


def test_all_accounted_for():
    assert discrepancies(outcome()) == []


@pytest.mark.parametrize(
    ("stats", "problem"),
    [
        ({"total": 3}, "recipients and messages"),
        ({"by_status": {**BY_STATUS, "failed": 0}}, "sum of their states"),
        ({"by_status": {**BY_STATUS, "failed": 0, "pending": 1}}, "without an end"),
        ({"successful": 2}, "providers took"),
        ({"failed": 0}, "providers refused"),
        ({"received": 1}, "devices that received"),
        ({"converted": 2}, "devices that were tapped"),
    ],
)
def test_what_does_not_add_up_is_named(stats, problem):
    assert any(problem in line for line in discrepancies(outcome(**stats)))


def test_a_message_that_no_provider_saw_is_found():
    lost = outcome()
    lost.journal.accepted.popitem()
    assert discrepancies(lost)


def test_a_message_that_was_refused_and_then_accepted_counts_once():
    retried = outcome()
    retried.journal.refused.update(list(retried.journal.accepted)[:1])
    assert discrepancies(retried) == []


def test_a_dead_token_whose_subscription_goes_on_is_found():
    assert any("were ended" in line for line in discrepancies(replace(outcome(), ended=0)))


def test_lost_journal_entries_prove_nothing():
    assert discrepancies(replace(outcome(), journal=replace(outcome().journal, lost=5)))


@pytest.mark.parametrize("missing", [{"fanout_done": False}, {"by_status": {**BY_STATUS, "errored": 1}}, {"total": 5}])
def test_sending_goes_on_while_something_is_missing(missing):
    assert is_settled(STATS)
    assert not is_settled({**STATS, **missing})


def test_a_message_tells_when_it_was_made():
    assert {made_at(message_id) for message_id in message_ids(3)} == {1_000.0}


def test_quantiles_are_values_that_occurred():
    values = [float(number) for number in range(1, 101)]
    assert [quantile(values, share) for share in (0.0, 0.5, 0.95, 1.0)] == [1.0, 50.5, 96.0, 100.0]
    assert quantile([7.0], 0.95) == 7.0


def test_the_table_shows_every_state_and_the_log_in():
    shown = table(outcome(), {"email": "demo@example.com", "password": "secret-word"}, Path("/state"))
    for word in (*BY_STATUS, "2/s", "1 Unregistered", "demo@example.com", "secret-word", "/state/demo.json"):
        assert word in shown


def test_a_refusal_of_the_api_is_one_line_with_code_and_field():
    answer = {
        "success": False,
        "error": {
            "code": "VALIDATION_ERROR",
            "message": "No.",
            "details": [{"field": "name", "message": "is missing"}],
        },
    }
    assert refusal(400, answer) == "400 VALIDATION_ERROR: No. (name: is missing)"
    assert refusal(502, {}) == "502 : no reason given"


def test_an_api_that_does_not_answer_is_one_line(unused_port):
    api = Api(f"http://127.0.0.1:{unused_port}", "as_sk_x")
    assert not api.is_ready()
    with pytest.raises(ScenarioError, match="does not answer"):
        api.get("me")


@pytest.fixture
def unused_port() -> int:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])
