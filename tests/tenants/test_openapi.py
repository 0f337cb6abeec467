from __future__ import annotations

import pytest
from drf_spectacular.drainage import GENERATOR_STATS
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.validation import validate_schema

from apps.tenants.urls import urlpatterns


@pytest.fixture(scope="module")
def description() -> dict:
    GENERATOR_STATS.reset()
    return SchemaGenerator().get_schema(request=None, public=True)


def operations(description):
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def test_the_description_is_valid_openapi_3_1(description):
    assert description["openapi"].startswith("3.1")
    validate_schema(description)


def test_every_route_of_this_app_is_described(description):
    described = {path.removeprefix("/api/v1/") for path in description["paths"]}
    for pattern in urlpatterns:
        assert str(pattern.pattern).replace("<uuid:", "{").replace(">", "}") in described


def test_operations_have_ids_and_tags_of_their_own(description):
    ids = [operation["operationId"] for _, _, operation in operations(description)]
    assert len(set(ids)) == len(ids)
    assert all(operation["tags"] and operation.get("description") for _, _, operation in operations(description))


def test_operations_say_who_may_call_them(description):
    keys = description["paths"]["/api/v1/keys"]
    assert keys["get"]["security"] == [
        {"secretKey": ["settings:read"]},
        {"operatorToken": ["settings:read"], "applicationId": []},
    ]
    assert description["paths"]["/api/v1/me"]["get"]["security"] == [{"operatorToken": []}]
    assert not description["paths"]["/api/v1/auth/login"]["post"].get("security")
    schemes = description["components"]["securitySchemes"]
    assert set(schemes) == {"secretKey", "publishableKey", "operatorToken", "applicationId"}


def test_no_answer_of_this_app_describes_a_secret(description):
    schemas = description["components"]["schemas"]
    assert "secret" not in schemas["CredentialOutput"]["properties"]
    assert "key" not in schemas["KeyOutput"]["properties"]
    assert "digest" not in schemas["NewKeyOutput"]["properties"]
