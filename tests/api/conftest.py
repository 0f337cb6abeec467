"""Two applications with one of everything, and no rates in the way."""

from __future__ import annotations

from copy import deepcopy

import pytest
from django.conf import settings
from django.test import override_settings

from tests.api.world import World, make_world


@pytest.fixture(scope="module", autouse=True)
def many_requests():
    rates = dict.fromkeys(settings.API_RATE_PER_MINUTE, 100_000_000)
    nowhere = "https://127.0.0.1:9"  # what asks a provider finds none
    with override_settings(API_RATE_PER_MINUTE=rates, NHN_KAKAO_URL=nowhere):
        yield


@pytest.fixture(scope="module")
def victim(rows_of_module, many_requests) -> World:
    return make_world("victim")


@pytest.fixture(scope="module")
def intruder(rows_of_module, many_requests) -> World:
    return make_world("intruder")


@pytest.fixture
def world(victim, db) -> World:
    """Whose data it is."""
    return deepcopy(victim)


@pytest.fixture
def foreign(intruder, db) -> World:
    """The stranger's own application."""
    return deepcopy(intruder)
