from __future__ import annotations

import pytest
from drf_spectacular.generators import SchemaGenerator

OURS = ("/api/v1/segments", "/api/v1/audience", "/api/v1/campaigns")


@pytest.fixture(scope="module")
def schema():
    return SchemaGenerator().get_schema(request=None, public=True)


def test_every_route_is_described_with_its_own_name_tag_and_words(schema):
    operations = [
        operation
        for path, methods in schema["paths"].items()
        if path.startswith(OURS)
        for operation in methods.values()
    ]
    names = [operation["operationId"] for operation in operations]
    assert len(names) == len(set(names)) == 28
    assert {operation["tags"][0] for operation in operations} == {"segments", "campaigns"}
    assert all(operation["description"] for operation in operations)


@pytest.mark.parametrize("action", ["launch", "test"])
def test_posts_that_send_take_an_idempotency_key(schema, action):
    parameters = schema["paths"][f"/api/v1/campaigns/{{campaign_id}}/{action}"]["post"]["parameters"]
    assert "Idempotency-Key" in {parameter["name"] for parameter in parameters}
