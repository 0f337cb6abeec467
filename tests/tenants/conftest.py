"""What the tests of this app share: operators, their tokens, and rates that start at nothing."""

from __future__ import annotations

import pytest

from apps.tenants.access import rate_counters
from apps.tenants.models import Role
from apps.tenants.services import membership_set, operator_create
from tests.conftest import ApiClient

PASSWORD = "correct horse battery staple"


@pytest.fixture(autouse=True)
def rates_start_at_nothing(settings):
    """Counters are in the real Redis, and all tests call from one address within the same minute."""
    rate_counters.cache_clear()
    redis = rate_counters()._redis
    if keys := list(redis.scan_iter("automata:rate:*")):
        redis.delete(*keys)
    yield
    rate_counters.cache_clear()


@pytest.fixture
def anonymous() -> ApiClient:
    return ApiClient("")


@pytest.fixture
def owner(application):
    operator = operator_create(email="owner@example.com", password=PASSWORD, name="Olga")
    membership_set(operator=operator, application=application, role=Role.OWNER)
    return operator


def sign_in(email: str, password: str = PASSWORD, **headers: str) -> ApiClient:
    """A client with the operator's access token."""
    answer = ApiClient("").post("auth/login", {"email": email, "password": password})
    assert answer.status_code == 200, answer.content
    return ApiClient(answer.json()["data"]["access"], **headers)


@pytest.fixture
def console(owner, application) -> ApiClient:
    """The owner, signed in and acting for the application."""
    return sign_in(owner.email, **{"x-application-id": str(application.pk)})
