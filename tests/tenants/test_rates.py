from __future__ import annotations

import socket
import time

import pytest

from apps.tenants import access
from apps.tenants.access import RateCounters, network_of
from apps.tenants.models import ApiKey, KeyKind
from apps.tenants.services import key_create
from tests.conftest import ApiClient
from tests.tenants.test_keys import code

HEADERS = ("RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset")


@pytest.fixture(autouse=True)
def within_one_minute():
    """Windows are minutes of the clock: do not begin in the last seconds of one."""
    if (left := 60 - time.time() % 60) < 3:
        time.sleep(left)


@pytest.fixture
def slow_client(application) -> ApiClient:
    """A key that may call three times per minute."""
    return ApiClient(key_create(application=application, name="n", kind=KeyKind.SECRET, rate_per_minute=3).plaintext)


def test_every_answer_says_what_is_left(slow_client):
    answers = [slow_client.get("application") for _ in range(3)]
    assert [answer["RateLimit-Limit"] for answer in answers] == ["3"] * 3
    assert [answer["RateLimit-Remaining"] for answer in answers] == ["2", "1", "0"]
    assert all(1 <= int(answer["RateLimit-Reset"]) <= 60 for answer in answers)


def test_a_refusal_for_another_reason_says_it_too(slow_client):
    assert slow_client.post("keys", {"colour": 1})["RateLimit-Remaining"] == "2"
    assert slow_client.get("keys/00000000-0000-7000-8000-000000000000")["RateLimit-Remaining"] == "1"


def test_one_request_too_many_is_a_429_with_all_headers(slow_client):
    for _ in range(3):
        slow_client.get("application")
    answer = slow_client.get("application")
    assert (answer.status_code, code(answer)) == (429, "RATE_LIMITED")
    assert all(header in answer for header in HEADERS)
    assert answer["RateLimit-Remaining"] == "0"
    assert answer["Retry-After"] == answer["RateLimit-Reset"]


def test_keys_do_not_share_a_rate(slow_client, server):
    for _ in range(4):
        slow_client.get("application")
    assert server.get("application").status_code == 200


def test_the_settings_give_the_rate_of_a_key_without_its_own(server, settings):
    settings.API_RATE_PER_MINUTE = settings.API_RATE_PER_MINUTE | {"secret": 1}
    assert server.get("application").status_code == 200
    assert server.get("application").status_code == 429


def test_one_device_does_not_use_up_the_rate_of_all(sdk, settings):
    """The scope is refused before the rate is counted, so the limits are read where a view would have them."""
    settings.API_RATE_PER_MINUTE = settings.API_RATE_PER_MINUTE | {"device": 2, "publishable": 100}
    key = ApiKey.objects.get()
    request = _request(access.Caller(key.application, frozenset(), key=key), "10.0.0.1")
    assert access.CallerThrottle.limits(request) == [
        (f"publishable:{key.pk}", 100),
        (f"device:{key.pk}:10.0.0.1", 2),
    ]
    throttle = access.CallerThrottle()
    assert [throttle.allow_request(request, None) for _ in range(3)] == [True, True, False]
    other = _request(request.auth, "10.0.0.2")
    assert throttle.allow_request(other, None)
    assert other.rate.limit == 2


def test_who_guesses_keys_is_held_up(anonymous, server, settings):
    settings.API_RATE_PER_MINUTE = settings.API_RATE_PER_MINUTE | {"unauthenticated": 3}
    answers = [anonymous.get("application", authorization=f"Bearer as_sk_{n}") for n in range(4)]
    assert [answer.status_code for answer in answers] == [401, 401, 401, 429]
    assert all(header in answers[3] for header in (*HEADERS, "Retry-After"))
    assert server.get("application").status_code == 200


class _request:
    def __init__(self, auth, address: str, **meta: str) -> None:
        self.auth = auth
        self.META = {"REMOTE_ADDR": address} | meta


@pytest.mark.parametrize(
    ("proxies", "forwarded", "address"),
    [
        (0, "1.1.1.1", "9.9.9.9"),
        (1, "1.1.1.1", "1.1.1.1"),
        (1, "6.6.6.6, 1.1.1.1", "1.1.1.1"),
        (2, "6.6.6.6, 1.1.1.1, 2.2.2.2", "1.1.1.1"),
        (2, "1.1.1.1", "9.9.9.9"),
        (1, "", "9.9.9.9"),
    ],
)
def test_a_client_does_not_choose_its_own_address(settings, proxies, forwarded, address):
    settings.TRUSTED_PROXIES = proxies
    assert access.client_address(_request(None, "9.9.9.9", HTTP_X_FORWARDED_FOR=forwarded)) == address


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("", ""),
        ("x" * 100, "x" * 64),
    ],
)
def test_an_ipv6_party_is_its_network(address, network):
    assert network_of(address) == network


# --- Without Redis -----------------------------------------------------------------------------------------------


@pytest.fixture
def silent_redis():
    """A port that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"redis://127.0.0.1:{listener.getsockname()[1]}/0"


def test_without_redis_nobody_is_held_up(server, settings):
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    access.rate_counters.cache_clear()
    answer = server.get("application")
    assert answer.status_code == 200
    assert not any(header in answer for header in HEADERS)


def test_a_redis_that_hangs_costs_one_request_a_quarter_of_a_second_and_the_others_nothing(silent_redis):
    counters = RateCounters(silent_redis)
    times = []
    for _ in range(20):
        started = time.monotonic()
        assert counters.count([("n", 1)]) == []
        times.append(time.monotonic() - started)
    assert times[0] < 0.25
    assert sum(times[1:]) < 0.05


def test_limits_are_back_after_the_rest(settings, monkeypatch):
    counters = RateCounters("redis://127.0.0.1:1/0")
    good = RateCounters(settings.REDIS_URL)._redis
    assert counters.count([("rest", 5)]) == []
    counters._redis = good
    assert counters.count([("rest", 5)]) == []
    counters._resting_until = time.monotonic() - 1
    assert counters.count([("rest", 5)])[0].remaining == 4
    assert counters.count([("rest", 5)])[0].remaining == 3
