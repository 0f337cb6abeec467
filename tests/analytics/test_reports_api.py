"""The routes of scheduled reports."""

from __future__ import annotations

import base64

import pytest

from apps.analytics.models import ReportRun, ReportSchedule
from apps.analytics.reports import preview
from apps.billing.models import BillingProfile, Plan
from apps.tenants.access import rate_counters
from apps.tenants.models import KeyKind, Operator, Role
from apps.tenants.services import key_create, membership_set
from tests.api.world import sign_in
from tests.conftest import ApiClient

PASSWORD = "correct horse battery staple"


@pytest.fixture(autouse=True)
def clean_redis():
    """Rates start at nothing, and nothing that was queued stays behind."""
    rate_counters()._redis.flushdb()
    yield
    rate_counters()._redis.flushdb()


@pytest.fixture
def ana(application) -> Operator:
    operator = Operator.objects.create_user("ana@example.com", PASSWORD)
    membership_set(operator=operator, application=application, role=Role.ANALYST)
    return operator


@pytest.fixture
def report(server, ana) -> dict:
    answer = server.post("reports", {"kind": "daily", "members": ["ana@example.com"]})
    assert answer.status_code == 201, answer.content
    return answer.json()["data"]


def problem(answer) -> tuple[int, str]:
    error = answer.json()["error"]
    return answer.status_code, error["details"][0]["field"] if error["details"] else error["code"]


def test_a_report_is_made_read_changed_and_deleted(server, report):
    assert (report["kind"], report["hour"], report["roles"], report["members"]) == (
        "daily",
        9,
        [],
        ["ana@example.com"],
    )
    changed = server.patch(f"reports/{report['id']}", {"hour": 7, "roles": ["owner"], "language": "ko"})
    assert changed.status_code == 200
    data = server.get(f"reports/{report['id']}").json()["data"]
    assert (data["hour"], data["roles"], data["members"], data["language"]) == (7, ["owner"], ["ana@example.com"], "ko")
    assert [one["id"] for one in server.get("reports").json()["data"]] == [report["id"]]
    assert server.delete(f"reports/{report['id']}").status_code == 204
    assert server.get(f"reports/{report['id']}").status_code == 404


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"kind": "hourly", "roles": ["owner"]}, "kind"),
        ({"kind": "daily"}, "roles"),
        ({"kind": "daily", "roles": ["support"]}, "roles[0]"),
        ({"kind": "daily", "roles": ["owner"], "hour": 24}, "hour"),
        ({"kind": "weekly", "roles": ["owner"], "weekday": 7}, "weekday"),
        ({"kind": "daily", "roles": ["owner"], "language": "xx"}, "language"),
        ({"kind": "daily", "members": ["customer@example.com"]}, "members"),
        ({"kind": "daily", "members": ["ana@example.com\r\nBcc: a@b.c"]}, "members"),
        ({"kind": "daily", "members": [f"m{n}@example.com" for n in range(101)]}, "members"),
        ({"kind": "daily", "roles": ["owner"], "to": "a@b.c"}, "to"),
    ],
)
def test_what_is_wrong_is_refused_by_its_name(server, ana, body, field):
    answer = server.post("reports", body)
    assert answer.status_code == 400
    assert answer.json()["error"]["details"][0]["field"].startswith(field)
    assert not ReportSchedule.objects.exists()


def test_an_application_has_at_most_twenty(server, report):
    for _ in range(19):
        assert server.post("reports", {"kind": "daily", "roles": ["owner"]}).status_code == 201
    assert problem(server.post("reports", {"kind": "daily", "roles": ["owner"]})) == (409, "TOO_MANY_REPORTS")


def test_a_plan_without_reports_refuses_them(server, application, ana):
    BillingProfile.objects.update_or_create(application=application, defaults={"plan": Plan.objects.get(code="free")})
    answer = server.post("reports", {"kind": "daily", "roles": ["owner"]})
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "PLAN_FEATURE")


def test_a_preview_is_the_letter_with_its_picture(server, report):
    data = server.get(f"reports/{report['id']}/preview").json()["data"]
    assert data["subject"].startswith("Shop: report of ")
    assert "Sent: 0" in data["text"]
    assert 'src="cid:picture"' in data["html"]
    assert base64.b64decode(data["picture"]).startswith(b"\x89PNG")


def test_a_report_can_be_sent_now_to_a_member_and_to_nobody_else(server, report, application, ana):
    send = f"reports/{report['id']}/send"
    assert problem(server.post(send)) == (400, "member")
    assert problem(server.post(send, {"member": "customer@example.com"})) == (400, "member")
    assert server.post(send, {"member": "ana@example.com"}).status_code == 202
    assert sign_in("ana@example.com", application).post(send).status_code == 202
    assert rate_counters()._redis.llen("control") == 2
    for _ in range(preview.SENDS_PER_MINUTE):
        last = server.post(send, {"member": "ana@example.com"})
    assert last.status_code == 429


def test_what_was_sent_is_listed(server, report, application):
    schedule = ReportSchedule.objects.get()
    common = {"application": application, "schedule": schedule, "period_end": "2020-11-20"}
    ReportRun.objects.create(**common, period_start="2020-11-19", state="sent", delivered_to=schedule.members)
    [run] = server.get(f"reports/{report['id']}/runs").json()["data"]
    assert (run["state"], run["delivered"], run["refused"], run["period_start"]) == ("sent", 1, 0, "2020-11-19")


def test_another_application_and_a_smaller_scope_get_nothing(stranger, application, report):
    for method, path in (("GET", ""), ("PATCH", ""), ("DELETE", ""), ("GET", "/runs"), ("GET", "/preview")):
        answer = stranger.request(method, f"reports/{report['id']}{path}", b"{}" if method == "PATCH" else b"")
        assert answer.status_code == 404, path
    assert stranger.post(f"reports/{report['id']}/send", {"member": "ana@example.com"}).status_code == 404
    reader = key_create(application=application, name="r", kind=KeyKind.SECRET, scopes=["analytics:read"])
    client = ApiClient(reader.plaintext)
    assert client.get("reports").status_code == 200
    assert client.post("reports", {"kind": "daily", "roles": ["owner"]}).status_code == 403
    assert client.get(f"reports/{report['id']}/preview").status_code == 403
