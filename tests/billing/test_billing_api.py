"""Plan, quotas, ledger, statements and alerts by API; money is moved by the platform's operators only, and once."""

from __future__ import annotations

import csv
import io
from zoneinfo import ZoneInfo

import pytest

from apps.billing.models import BillingProfile, LedgerTransaction, MessageQuota
from apps.billing.services.quota import billing_of, quota_reserve
from apps.tenants.models import Operator, Role
from apps.tenants.services import membership_set
from tests.conftest import ApiClient

PASSWORD = "correct horse battery staple"


@pytest.fixture
def signed_in(application):
    """`signed_in(role)`, or a superuser without one, acting in the application."""

    def sign_in(role: str = "") -> ApiClient:
        email = f"{role or 'root'}@example.com"
        operator = Operator.objects.create_user(email, PASSWORD, is_superuser=not role)
        if role:
            membership_set(operator=operator, application=application, role=role)
        token = ApiClient("").post("auth/login", {"email": email, "password": PASSWORD}).json()["data"]["access"]
        return ApiClient(token, **{"x-application-id": str(application.pk)})

    return sign_in


def data(answer, status: int = 200):
    assert answer.status_code == status, answer.content
    return answer.json()["data"]


def error(answer, status: int):
    assert answer.status_code == status, answer.content
    return answer.json()["error"]


def put(client, path: str, body):
    return client.request("PUT", path, body)


def test_the_plan_says_what_is_included_and_what_is_used(application, server, signed_in):
    data(put(signed_in(), "billing/plan", {"plan": "free"}))
    quota_reserve(application_id=application.pk, channel_type="push", messages=7)
    state = data(server.get("billing/plan"))
    assert (state["plan"]["code"], state["plan"]["features"], state["plan"]["retention_days_max"]) == (
        "free",
        ["api"],
        30,
    )
    push = next(quota for quota in state["quotas"] if quota["channel_type"] == "push")
    assert (push["daily_quota"], push["daily_used"], push["reserved"]) == (1_000, 7, 7)
    assert push["daily_resets_at"].endswith("T15:00:00Z")  # midnight in Seoul
    sms = next(quota for quota in state["quotas"] if quota["channel_type"] == "sms")
    assert sms["is_included"] is False
    assert data(server.get("billing/quotas")) == state["quotas"]


def test_the_credit_says_what_is_left(application, server, signed_in):
    root = signed_in()
    data(root.post("billing/top-ups", {"amount": "1000", "reason": "paid"}), 201)
    data(put(root, "billing/quotas/push", {"daily_quota": None, "monthly_quota": None, "unit_price": "0.5"}))
    quota_reserve(application_id=application.pk, channel_type="push", messages=100)
    credit = data(server.get("billing/plan"))["credit"]
    assert credit == {"currency": "KRW", "balance": "1000", "credit_limit": "0", "available": "950"}


def test_a_top_up_is_in_the_ledger_with_who_and_why_and_both_sides(signed_in):
    root = signed_in()
    posted = data(root.post("billing/top-ups", {"amount": "1500.25", "reason": "bank", "reference": "b-1"}), 201)
    assert (posted["kind"], posted["reason"], posted["posted_by"]) == ("top_up", "bank", "root@example.com")
    assert {(e["account"], e["amount"]) for e in posted["entries"]} == {("credit", "1500.25"), ("funding", "-1500.25")}
    assert data(root.get("billing/ledger")) == [posted]


def test_the_same_reference_or_key_moves_money_once(signed_in):
    root = signed_in()
    body = {"amount": "10", "reason": "bank", "reference": "b-1"}
    first, second = (data(root.post("billing/top-ups", body), 201) for _ in range(2))
    assert first["id"] == second["id"]
    assert error(root.post("billing/top-ups", body | {"amount": "11"}), 409)["code"] == "REFERENCE_USED"
    assert error(root.post("billing/refunds", body), 409)["code"] == "REFERENCE_USED"
    keyed = [root.post("billing/refunds", {"amount": "1", "reason": "r"}, **{"idempotency-key": "k"}) for _ in range(2)]
    assert keyed[0].json()["data"]["id"] == keyed[1].json()["data"]["id"]
    assert keyed[1]["Idempotency-Replayed"] == "true"
    assert LedgerTransaction.objects.count() == 2


def test_more_than_there_is_cannot_be_taken(signed_in):
    root = signed_in()
    data(root.post("billing/top-ups", {"amount": "10", "reason": "bank"}), 201)
    refused = error(root.post("billing/adjustments", {"amount": "-10.5", "reason": "mistake"}), 402)
    assert refused["code"] == "CREDIT_EXHAUSTED"
    data(root.post("billing/adjustments", {"amount": "-10", "reason": "mistake"}), 201)


@pytest.mark.parametrize(
    "wrong",
    [
        {"amount": "0"},
        {"amount": "-5"},
        {"amount": "1e3"},
        {"amount": "NaN"},
        {"amount": "0.0000001"},
        {"amount": 5},
        {"amount": ""},
        {"amount": "5", "reason": " "},
        {"amount": "5", "currency": "USD"},
        {"amount": "5", "currency": "ZZZ"},
    ],
)
def test_what_is_no_amount_or_says_no_reason_is_refused(signed_in, wrong):
    assert error(signed_in().post("billing/top-ups", {"reason": "bank"} | wrong), 400)["code"] == "VALIDATION_ERROR"
    assert not LedgerTransaction.objects.exists()


MONEY = [
    ("PUT", "billing/plan", {"plan": "free"}),
    ("PUT", "billing/quotas/push", {"daily_quota": None, "monthly_quota": None, "unit_price": "0"}),
    ("DELETE", "billing/quotas/push", None),
    ("POST", "billing/top-ups", {"amount": "1", "reason": "r"}),
    ("POST", "billing/adjustments", {"amount": "1", "reason": "r"}),
    ("POST", "billing/refunds", {"amount": "1", "reason": "r"}),
]


@pytest.mark.parametrize(("method", "path", "body"), MONEY)
def test_neither_a_key_nor_an_owner_moves_money(application, server, signed_in, method, path, body):
    billing_of(application)
    for client in (server, signed_in(Role.OWNER)):
        assert error(client.request(method, path, body), 403)["code"] == "FORBIDDEN"
    assert not LedgerTransaction.objects.exists()
    assert BillingProfile.objects.get().plan.code == "enterprise"


def test_terms_of_one_application_are_agreed_and_given_up(application, signed_in):
    root = signed_in()
    agreed = data(put(root, "billing/quotas/push", {"daily_quota": 5, "monthly_quota": 50, "unit_price": "0"}))
    assert (agreed["is_own"], agreed["daily_quota"], agreed["monthly_quota"]) == (True, 5, 50)
    back = data(root.delete("billing/quotas/push"))
    assert (back["is_own"], back["daily_quota"]) == (False, None)
    pigeon = {"daily_quota": 5, "monthly_quota": 50, "unit_price": "0"}
    assert error(put(root, "billing/quotas/pigeon", pigeon), 404)["code"] == "NOT_FOUND"
    assert error(put(root, "billing/plan", {"plan": "golden"}), 404)["code"] == "NOT_FOUND"


def test_the_ledger_has_pages_and_kinds(server, signed_in):
    root = signed_in()
    for number in range(3):
        data(root.post("billing/top-ups", {"amount": "1", "reason": f"r{number}"}), 201)
    data(root.post("billing/refunds", {"amount": "1", "reason": "back"}), 201)
    first = server.get("billing/ledger?limit=2&kind=top_up")
    rest = server.get(f"billing/ledger?limit=2&kind=top_up&cursor={first.json()['meta']['next_cursor']}")
    assert [row["reason"] for row in data(first) + data(rest)] == ["r2", "r1", "r0"]


def test_a_statement_is_json_or_a_file(application, server, signed_in):
    data(signed_in().post("billing/top-ups", {"amount": "700", "reason": "+evil"}), 201)
    posted_at = LedgerTransaction.objects.get().posted_at
    month = f"{posted_at.astimezone(ZoneInfo(application.time_zone)):%Y-%m}"  # a month of the application's, not of UTC
    statement = data(server.get(f"billing/statements/{month}"))
    assert (statement["top_ups"], statement["closing_credit"], statement["is_closed"]) == ("700", "700", False)
    file = server.get(f"billing/statements/{month}?format=csv&bom=true")
    assert file["Content-Type"] == "text/csv; charset=utf-8"
    assert file["Content-Disposition"] == f'attachment; filename="statement-{month}.csv"'
    rows = list(csv.DictReader(io.StringIO(file.content.decode("utf-8-sig"))))
    assert [(row["line"], row["amount"], row["reason"]) for row in rows] == [
        ("opening_credit", "0", ""),
        ("top_up", "700", "'+evil"),
        ("closing_credit", "700", ""),
    ]
    refused = server.get("billing/statements/2026-99?format=csv")
    assert error(refused, 400)["details"][0]["field"] == "month"
    assert refused["Content-Type"] == "application/json"


def test_the_webhooks_secret_is_in_one_answer_only(server):
    first = data(
        server.patch("billing/alert-settings", {"webhook_url": "https://hooks.example/a", "low_credit_at": "5"})
    )
    assert first["webhook_secret"].startswith("whsec_")
    assert (first["low_credit_at"], first["has_webhook_secret"]) == ("5", True)
    assert "webhook_secret" not in data(server.get("billing/alert-settings"))
    assert "webhook_secret" not in data(server.patch("billing/alert-settings", {"low_credit_at": None}))
    again = data(server.patch("billing/alert-settings", {"rotate_webhook_secret": True}))
    assert again["webhook_secret"] not in ("", first["webhook_secret"])


@pytest.mark.parametrize(
    "url", ["http://hooks.example/", "https://127.0.0.1/", "https://169.254.169.254/", "ftp://x", "x"]
)
def test_a_webhook_to_our_own_network_is_refused_when_it_is_chosen(server, url):
    refused = error(server.patch("billing/alert-settings", {"webhook_url": url}), 400)
    assert refused["details"][0]["field"] == "webhook_url"


def test_alerts_are_listed(application, server):
    from apps.billing.alerts import alerts_raise

    billing_of(application)
    MessageQuota.objects.filter(channel_type="push").update(daily_quota=10, daily_used=9)
    alerts_raise()
    [alert] = data(server.get("billing/alerts"))
    assert (alert["kind"], alert["threshold"], alert["facts"]["used"], alert["is_open"]) == ("daily_quota", 80, 9, True)
