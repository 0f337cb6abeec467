"""`pytest -p tests.citus_keys …`: any tests, on the keys that Citus demands (`manage.py citus_schema`)."""

from __future__ import annotations

import pytest
from django.core.management import call_command


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef, request):
    """Change the keys when the test database has just been made."""
    value = yield
    if fixturedef.argname == "django_db_setup":
        with request.getfixturevalue("django_db_blocker").unblock():
            call_command("citus_schema", apply=True)
    return value
