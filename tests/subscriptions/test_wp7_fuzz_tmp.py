import pytest, schemathesis
from hypothesis import settings, HealthCheck
from automata_signal.wsgi import application as wsgi
from apps.tenants.models import KeyKind
from apps.tenants.services import key_create
schema = schemathesis.openapi.from_wsgi("/api/schema/?format=json", wsgi).include(path_regex=r"^/api/v1/(users|subscriptions)")

@pytest.fixture
def keys(application):
    return [key_create(application=application, name=k, kind=k).plaintext for k in (KeyKind.SECRET, KeyKind.PUBLISHABLE)]

@schema.parametrize()
@settings(max_examples=25, suppress_health_check=list(HealthCheck), deadline=None)
@pytest.mark.django_db
def test_no_500(case, keys, application):
    from apps.subscriptions.models import AppUser
    import random
    for key in keys:
        resp = case.call(headers={"authorization": f"Bearer {key}"})
        assert resp.status_code < 500, (resp.status_code, resp.content)
        if resp.status_code < 300:
            case.validate_response(resp, checks=[schemathesis.checks.CHECKS.get_one("response_schema_conformance")] if hasattr(schemathesis.checks, "CHECKS") else None)
