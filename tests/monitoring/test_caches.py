"""What is kept, for how long and for whom; and what happens when Redis does not keep it."""

from __future__ import annotations

import os
import time
from uuid import uuid4

import pytest
import redis

from apps.campaigns.selectors import audience_count
from automata_signal import caches
from automata_signal.caches import AUDIENCE_COUNTS, POLICIES, PREVIEWS, STATISTICS, cached, forget
from tests.docs.markdown import codes, table, text
from tests.factories import make_subscriptions
from tests.monitoring.series import value


@pytest.fixture(autouse=True)
def kept(settings):
    settings.CACHE_TTL_S = dict.fromkeys(settings.CACHE_TTL_S, 60)


@pytest.fixture
def store(settings):
    return redis.Redis.from_url(settings.REDIS_URL)


@pytest.fixture
def redis_is_gone(settings):
    """The cache speaks to a port where nobody listens, and forgets that afterwards."""
    caches._store.cache_clear()
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    yield
    caches._store.cache_clear()


class Maker:
    def __init__(self, value) -> None:
        self.value, self.calls = value, 0

    def __call__(self):
        self.calls += 1
        return self.value


def test_an_answer_is_made_once_and_then_kept():
    application_id, make = uuid4(), Maker({"sent": 7})
    first = cached(STATISTICS, application_id, {"question": "totals", "days": 30}, make)
    again = cached(STATISTICS, application_id, {"days": 30, "question": "totals"}, make)
    assert (first, again, make.calls) == ({"sent": 7}, {"sent": 7}, 1)


def test_another_question_and_another_application_have_their_own_answers():
    ours, theirs = uuid4(), uuid4()
    assert cached(STATISTICS, ours, ["totals", 1], Maker(1)) == 1
    assert cached(STATISTICS, ours, ["totals", 2], Maker(2)) == 2
    assert cached(STATISTICS, theirs, ["totals", 1], Maker(3)) == 3


def test_nothing_of_an_application_is_taken_after_it_was_forgotten():
    ours, theirs = uuid4(), uuid4()
    for application_id in (ours, theirs):
        cached(STATISTICS, application_id, "q", Maker("old"))
    forget(STATISTICS, ours)
    assert cached(STATISTICS, ours, "q", Maker("new")) == "new"
    assert cached(STATISTICS, theirs, "q", Maker("new")) == "old"


def test_an_answer_that_was_being_made_when_it_was_forgotten_is_not_kept():
    application_id = uuid4()

    def slowly():
        forget(STATISTICS, application_id)  # the truth changes while we read it
        return "old"

    assert cached(STATISTICS, application_id, "q", slowly) == "old"
    assert cached(STATISTICS, application_id, "q", Maker("new")) == "new"


def test_a_value_ends_with_its_time(store, settings):
    settings.CACHE_TTL_S["statistics"] = 1
    application_id = uuid4()
    cached(STATISTICS, application_id, "q", Maker(1))
    [key] = store.keys(f"automata:cache:statistics:{application_id}:*")
    assert 0 < store.pttl(key) <= 1_000


def test_zero_seconds_is_no_cache_at_all(store, settings):
    settings.CACHE_TTL_S["statistics"] = 0
    application_id = uuid4()
    assert [cached(STATISTICS, application_id, "q", Maker(n)) for n in (1, 2)] == [1, 2]
    assert not store.keys(f"automata:cache:statistics:{application_id}:*")


def test_neither_keys_nor_values_show_who_a_person_is(store):
    application_id, secret = uuid4(), "kim@example.com"
    cached(PREVIEWS, application_id, {"name": secret}, Maker({"title": f"Hello {secret}"}))
    [key] = store.keys(f"automata:cache:previews:{application_id}:*")
    assert secret.encode() not in key + store.get(key)
    assert b"Hello" not in store.get(key)
    assert cached(PREVIEWS, application_id, {"name": secret}, Maker(None)) == {"title": f"Hello {secret}"}


@pytest.mark.parametrize("stored", [b"", b"nonsense", b"[0]", b"[1,2,3]", b"\x01" * 40, b"[7,1]"])
def test_what_is_not_ours_is_made_anew(store, stored):
    application_id = uuid4()
    for policy in (STATISTICS, PREVIEWS):
        cached(policy, application_id, "q", Maker(1))
        [key] = store.keys(f"automata:cache:{policy.name}:{application_id}:*")
        store.set(key, stored)
        assert cached(policy, application_id, "q", Maker(2)) == 2


def test_what_json_cannot_say_or_is_too_large_is_made_and_not_kept(store):
    for unkept in ({"n": 2**70}, "x" * (caches.VALUE_MAX_BYTES + 1)):
        application_id = uuid4()
        assert cached(STATISTICS, application_id, {"n": 2**70, "s": "\ud800"}, Maker(unkept)) == unkept
        assert not store.keys(f"automata:cache:statistics:{application_id}:*")


def test_without_redis_answers_are_made_and_only_the_first_one_waits(redis_is_gone):
    make, began = Maker("made"), time.monotonic()
    assert [cached(STATISTICS, uuid4(), "q", make) for _ in range(100)] == ["made"] * 100
    assert time.monotonic() - began < 1.0
    forget(STATISTICS, uuid4())


def test_a_redis_that_answers_again_is_asked_again(redis_is_gone, settings, monkeypatch):
    monkeypatch.setattr(caches, "REST_S", 0.05)
    cached(STATISTICS, uuid4(), "q", Maker(1))
    caches._store()._redis = redis.Redis.from_url(os.environ["REDIS_URL"])
    time.sleep(0.1)
    application_id, make = uuid4(), Maker(1)
    for _ in range(2):
        cached(STATISTICS, application_id, "q", make)
    assert make.calls == 1


def test_look_ups_are_counted(client, db):
    def counted(result):
        return value(client.get("/metrics").content, "automata_cache_requests_total", cache="statistics", result=result)

    before, application_id = (counted("hit"), counted("miss")), uuid4()
    for _ in range(3):
        cached(STATISTICS, application_id, "q", Maker(1))
    assert (counted("hit"), counted("miss")) == (before[0] + 2, before[1] + 1)


# --- What uses it ------------------------------------------------------------------------------------------------


def test_an_audience_is_counted_once_in_its_time(application, settings, django_assert_num_queries):
    make_subscriptions(application, [f"{n:064x}" for n in range(3)])
    asked = {"application": application, "criteria": {}, "channel_type": "push"}
    assert audience_count(**asked) == 3
    with django_assert_num_queries(0):
        assert audience_count(**asked) == 3
    settings.CACHE_TTL_S[AUDIENCE_COUNTS.name] = 0
    make_subscriptions(application, [f"{n:064x}" for n in range(3, 5)])
    assert audience_count(**asked) == 5


def test_an_edited_segment_is_counted_anew(application, server):
    make_subscriptions(application, ["a" * 64], country_code="KR")
    make_subscriptions(application, ["b" * 64, "c" * 64], country_code="US")

    def of(country):
        return {"field": "country", "op": "eq", "value": country}

    body = {"name": "there", "criteria": of("KR")}
    segment = server.post("segments", body).json()["data"]["id"]
    asked = {"criteria": {"segment": segment}, "channel_type": "push"}
    assert server.post("audience/count", asked).json()["data"]["count"] == 1
    assert server.patch(f"segments/{segment}", {"criteria": of("US")}).status_code == 200
    assert server.post("audience/count", asked).json()["data"]["count"] == 2


def test_a_stranger_does_not_get_our_preview(server, stranger, store):
    draft = {"body_template": "{% for x in xs %}{{ x }},{% endfor %}", "variables": {"xs": [1, 2]}}
    for caller in (server, server, stranger):
        assert caller.post("templates/preview", draft).json()["data"]["body"] == "1,2,"
    keys = store.keys("automata:cache:previews:*")
    assert len({key.split(b":")[3] for key in keys}) >= 2, "one for each application"


# --- The table ---------------------------------------------------------------------------------------------------


def test_the_page_shows_the_module_s_table():
    shown = {codes(row["Cache"])[0]: row for row in table(text("cache.md"), "What is kept")}
    assert list(shown) == [policy.name for policy in POLICIES]
    for policy in POLICIES:
        row = shown[policy.name]
        assert (row["What"], row["Key"], row["Invalidated by"]) == (policy.what, policy.key, policy.invalidated_by)
        assert codes(row["Kept for"]) == [policy.setting]
        assert row["Where"] == policy.where + (", encrypted" if policy.is_private else "")


def test_every_key_names_the_application_or_is_in_memory():
    assert all("application" in policy.key for policy in POLICIES if policy.where == "Redis")
