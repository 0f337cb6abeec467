"""Two applications with one of everything, and no rates in the way."""

from __future__ import annotations

import pytest

from tests.api.world import World, make_world


@pytest.fixture(autouse=True)
def as_many_requests_as_it_takes(settings):
    settings.API_RATE_PER_MINUTE = dict.fromkeys(settings.API_RATE_PER_MINUTE, 100_000_000)


@pytest.fixture(autouse=True)
def quick_passwords(settings):
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture
def world(db) -> World:
    """Whose data it is."""
    return make_world("victim")


@pytest.fixture
def foreign(db) -> World:
    """The stranger's own application."""
    return make_world("intruder")
