"""Requests made from the description, good and bad, to the real WSGI application: no answer may surprise its reader."""

from __future__ import annotations

import json
from urllib.parse import parse_qsl, urlsplit

import pytest
import schemathesis
from django.core.signals import request_finished, request_started
from django.core.wsgi import get_wsgi_application
from django.db import close_old_connections
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.config import GenerationConfig, ProjectConfig, ProjectsConfig, SchemathesisConfig
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.api.description import description
from tests.api.routes import ENTRIES, NOBODYS, OPERATOR, PLATFORM, SDK, address, described
from tests.api.test_bad_input import undone

CHECKS = [
    not_a_server_error,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
]
ENTRY_OF = {(method, described(route)): entry for (method, route), entry in ENTRIES.items()}
ROUTE_OF = {(method, described(route)): route for method, route in ENTRIES}
"""With what it needs in its query."""


def _schema():
    generation = GenerationConfig(with_security_parameters=False, deterministic=True)
    config = SchemathesisConfig(projects=ProjectsConfig(default=ProjectConfig(generation=generation)))
    schema = schemathesis.openapi.from_dict(json.loads(json.dumps(description())), config=config)
    schema.app = get_wsgi_application()
    return schema


OPERATIONS = [found.ok() for found in _schema().get_all_operations()]


@pytest.fixture(autouse=True)
def the_connection_stays(world):
    """It is the test's own, with its transaction: the end of a request must not close it. Django's client does so too,
    and signs the world's owner in before this."""
    for signal in (request_started, request_finished):
        signal.disconnect(close_old_connections)
    yield
    for signal in (request_started, request_finished):
        signal.connect(close_old_connections)


def _params(*, only=lambda entry: True):
    return [
        pytest.param(operation, id=f"{operation.method.upper()} {operation.path.removeprefix('/api/v1/')}")
        for operation in OPERATIONS
        if only(ENTRY_OF[operation.method.upper(), operation.path])
    ]


def run(world, operation, caller, *, examples: int) -> None:
    """So many requests by the caller, each taken back: one in three is good, one fits the description, one does not."""
    method = operation.method.upper()
    entry = ENTRY_OF[method, operation.path]
    cases = {
        "good": operation.as_strategy(generation_mode=GenerationMode.POSITIVE),
        "fitting": operation.as_strategy(generation_mode=GenerationMode.POSITIVE),
        "unfit": operation.as_strategy(generation_mode=GenerationMode.NEGATIVE),
    }

    @settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def one(data):
        kind = data.draw(st.sampled_from(list(cases) if _can_be_unfit(operation) else ["good", "fitting"]))
        case = data.draw(cases[kind])
        case.path_parameters = {name: (world.ids | NOBODYS)[name] for name in case.path_parameters or {}}
        if kind == "good":
            case.query = dict(parse_qsl(urlsplit(address(ROUTE_OF[method, operation.path], world.ids)).query))
        if kind == "good" and "requestBody" in operation.definition.raw:
            case.body = entry.body(world)
            case.media_type = "application/json"
        headers = {name: value for name, value in (case.headers or {}).items() if name != "X-Subscription-Handle"}
        case.headers = {**headers, **caller._headers}
        with undone():
            response = case.call()
        no_provider = response.status_code == 503 and 503 in entry.answers
        checks = [check for check in CHECKS if not (no_provider and check is not_a_server_error)]
        case.validate_response(response, checks=checks)
        if kind == "good" and "Idempotency-Key" not in headers:
            assert response.status_code in entry.answers, response.content

    one()


def _can_be_unfit(operation) -> bool:
    """Whether anything but the path can be sent at all."""
    parameters = [
        parameter for parameter in operation.definition.raw.get("parameters", ()) if parameter["in"] == "query"
    ]
    return bool(parameters) or "requestBody" in operation.definition.raw


@pytest.mark.parametrize("operation", _params(only=lambda entry: not {OPERATOR, PLATFORM} & set(entry.scopes)))
def test_an_app_server_gets_what_is_described(world, operation):
    run(world, operation, world.server, examples=15)


@pytest.mark.parametrize("operation", _params(only=lambda entry: SDK in entry.scopes))
def test_a_device_gets_what_is_described(world, operation):
    run(world, operation, world.sdk, examples=15)


@pytest.mark.parametrize(
    "operation", _params(only=lambda entry: OPERATOR in entry.scopes or "settings:write" in entry.scopes)
)
def test_an_operator_gets_what_is_described(world, operation):
    run(world, operation, world.owner, examples=10)


@pytest.mark.parametrize("operation", _params(only=lambda entry: PLATFORM in entry.scopes))
def test_the_platforms_operator_gets_what_is_described(world, operation):
    run(world, operation, world.root, examples=10)
