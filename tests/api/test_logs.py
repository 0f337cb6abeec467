"""What a log line may say of a request and of a failure."""

from __future__ import annotations

import logging
import sys

import pytest
import structlog
from django.conf import settings

from automata_signal.logs import logging_config
from tests.api.world import StrictClient


@pytest.fixture(params=[False, True], ids=["for people", "as JSON"])
def formatter(request) -> logging.Formatter:
    line = logging_config(level="INFO", as_json=request.param)["formatters"]["line"]
    return structlog.stdlib.ProcessorFormatter(**{name: value for name, value in line.items() if name != "()"})


def record(message: str, **extra) -> logging.LogRecord:
    return logging.getLogger("apps.tenants").makeRecord("apps.tenants", 30, "f", 1, message, (), None, extra=extra)


def test_a_traceback_names_lines_and_no_values(formatter):
    def fail():
        api_key = "as_" + "sk_of_somebody"
        raise ValueError(len(api_key))

    failed = record("it failed")
    try:
        fail()
    except ValueError:
        failed.exc_info = sys.exc_info()
    line = formatter.format(failed)
    assert "Traceback" in line
    assert "raise ValueError(len(api_key))" in line
    assert "as_sk_of_somebody" not in line


def test_our_own_extras_are_shown_and_those_of_others_are_not(formatter):
    line = formatter.format(record("no answer", cause="connection refused", request="GET /?phone=+821012345678"))
    assert "connection refused" in line
    assert "821012345678" not in line


def test_a_refused_request_is_logged_without_its_query(world, caplog):
    with caplog.at_level("WARNING"):
        world.server.get("users/by-external-id?external_id=%2B821012345678")
        StrictClient("as_sk_nobodys").get("users?external_id=%2B821012345678")
    lines = [str(one.msg) + one.getMessage() for one in caplog.records]
    assert any("by-external-id" in line for line in lines)
    assert not any("821012345678" in line or "as_sk_nobodys" in line for line in lines)


def test_requests_are_logged_by_our_own_middleware():
    assert "django_structlog.middlewares.RequestMiddleware" not in settings.MIDDLEWARE
