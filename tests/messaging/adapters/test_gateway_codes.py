"""Every code of the SMS and Kakao gateways, asked of their stand-ins: what it does to the message and the subscription.

`RECIPIENT`, `REPEATED` and `MESSAGE` say it as providers.md 4 and 5 do, apart from our tables: a code that stands in
none of them must leave the subscription alone.
"""

from __future__ import annotations

from uuid import uuid4

import pytest

from apps.messaging.adapters.base import Content, Delivery, Endpoint, Outcome
from apps.messaging.adapters.kakao_reasons import (
    NHN_KAKAO_REPLIES,
    NHN_KAKAO_REPORTS,
    fallback_is_sensible,
    nhn_kakao_reply,
    nhn_kakao_report,
)
from apps.messaging.adapters.nhn_kakao import NhnKakaoAdapter
from apps.messaging.adapters.nhn_sms import NhnSmsAdapter
from apps.messaging.adapters.sms_reasons import (
    NHN_RECEIPTS,
    NHN_SMS_REPLIES,
    NHN_SMS_REPORTS,
    SOLAPI,
    TWILIO,
    by_status,
    codes,
    nhn_sms_report,
    solapi_verdict,
    twilio_verdict,
)
from apps.messaging.adapters.solapi import SolapiAdapter
from apps.messaging.adapters.solapi_kakao import SolapiKakaoAdapter
from apps.messaging.adapters.twilio import TwilioAdapter
from apps.messaging.receipts import nhn, solapi, twilio
from apps.messaging.receipts.providers import Hook
from apps.messaging.receipts.reports import ReportKind
from apps.messaging.retry import Fault
from apps.sandbox.gateway_behaviours import TABLES, marked_number
from apps.sandbox.gateway_credentials import NhnApp, SolapiAccount, TwilioAccount
from tests.gateways import reset_gateway

TABLES_OF_OURS = {
    "twilio": TWILIO,
    "solapi": SOLAPI,
    "nhn_sms": NHN_SMS_REPLIES | {code: v for code, v in NHN_SMS_REPORTS.items() if code not in NHN_SMS_REPLIES},
    "nhn_receipts": NHN_RECEIPTS,
    "nhn_kakao": NHN_KAKAO_REPLIES | NHN_KAKAO_REPORTS,
}
RECIPIENT = {
    "twilio": {-50: "14101 21211 21214 21401 21614 30006", -52: "30005", -54: "21610 30004"},
    "solapi": {-50: "3010 3050", -52: "3032", -54: "1060 2060 1061 2061 3047 3055", -60: "3104", -62: "3102"},
    "nhn_sms": {-50: "-2018 -2019 1002 4003 3007 3010", -52: "3001 4005 3003", -54: "-6001 3006 3013"},
    "nhn_receipts": {-52: "3", -54: "4 9 14"},
    "nhn_kakao": {-50: "3008 -4019", -60: "3019 3021", -61: "3020 -3301", -62: "2003"},
}
REPEATED = {
    "twilio": {-53: "30003 30008 30017 30036 30410 60005"},
    "solapi": {-53: "3014 3048 3040:3046 3051 3053 3056 3057", -52: "3031", -54: "3054", -61: "3107"},
    "nhn_sms": {-53: "1019 2000:2007 3000 3004 3005 3008 4004 4007 4009 3014 4006 E900 E999", -54: "3012"},
    "nhn_receipts": {-53: "2 7 8", -52: "12"},
    "nhn_kakao": {-60: "3018"},
}
MESSAGE = {
    "twilio": {-53: "30007", -55: "21212 21603 21606 30034 30042"},
    "solapi": {
        -53: "1058 3058", -55: "1062 2062 1064 2064 3013 3059", -63: "1042 1043 3103 3105", -65: "1041 3101 3106",
    },
    "nhn_sms": {-55: "-2312 -2313 1003 4002 3017:3019", -53: "3015"},
    "nhn_receipts": {-55: "39 51"},
    "nhn_kakao": {
        -63: "3015 3016 3027 3028 3030 3031 3033 3036 3038 3042:3045 3053:3055 3057 4132:4134"
             " -3003 -3005 -3010 -3011 -3033 -3042 -3043 -3046",
        -64: "4138 4156 -1017",
        -65: "1003 1006 1007 1011 1014 1016 1021:1025 1027 -1006 -1014 -1024 -1027 -2017",
    },
}  # fmt: skip


def by_code(table):
    return {code: status for status, text in table.items() for code in codes(text)}


@pytest.mark.parametrize("name", TABLES_OF_OURS)
def test_only_what_the_reference_says_touches_a_subscription(name):
    hard, soft, told = by_code(RECIPIENT[name]), by_code(REPEATED[name]), by_code(MESSAGE[name])
    for code, verdict in TABLES_OF_OURS[name].items():
        assert verdict.subscription_status == hard.get(code), code
        assert verdict.soft_status == soft.get(code), code
        assert verdict.message_status == told.get(code), code
        if verdict.fault == Fault.SENDER:
            assert verdict.subscription_status is None, code
            assert verdict.soft_status is None, code
    assert {*hard, *soft, *told} <= set(TABLES_OF_OURS[name])


def test_only_the_account_itself_stops_a_credential():
    """A number, a template or a region is one message's; another one may go by the same credential."""
    stopping = {
        name: sorted(code for code, verdict in table.items() if verdict.outcome is Outcome.CREDENTIAL)
        for name, table in TABLES_OF_OURS.items()
    }  # fmt: skip
    assert stopping == {
        "twilio": ["20003", "30002"],
        "solapi": ["1020", "1030", "2063", "2230"],
        "nhn_sms": sorted(codes("-1000:-1004 -1007 -1008 -2047 -2051:-2053")),
        "nhn_receipts": [],
        "nhn_kakao": ["-1000", "-1001"],
    }


def test_an_unknown_code_ends_nobody():
    for verdict in (
        twilio_verdict(400, "99999"),
        solapi_verdict("3999"),
        nhn_sms_report("9999"),
        nhn_kakao_reply("-99"),
        nhn_kakao_report("77"),
    ):
        assert verdict.outcome is Outcome.PAYLOAD_REJECTED
        assert (verdict.subscription_status, verdict.soft_status) == (None, None)


def test_what_may_have_left_is_unknown():
    unsure = {
        status for status in (400, 401, 404, 429, 500, 502, 503, 504) if by_status(status).outcome is Outcome.UNKNOWN
    }
    assert unsure == {500, 502, 504}


@pytest.mark.parametrize(
    ("provider", "reason", "is_sensible"),
    [
        ("nhn_kakao", "3019", True),
        ("nhn_kakao", "3016", True),
        ("nhn_kakao", "-3003", True),
        ("nhn_kakao", "3005", False),
        ("nhn_kakao", "-1005", False),
        ("nhn_kakao", "3008", False),
        ("solapi_kakao", "3104", True),
        ("solapi_kakao", "1042", True),
        ("solapi_kakao", "3010", False),
        ("solapi_kakao", "unknown_outcome", False),
        ("solapi_kakao", "couldnt_connect", True),
    ],
)
def test_a_fallback_is_sent_where_the_first_cannot_arrive_any_more(provider, reason, is_sensible):
    assert fallback_is_sensible(provider, reason) is is_sensible


TEXT = Content(body="Hi")


# --- Asked of the stand-ins ----------------------------------------------------------------------------------------


def named(provider, kind, channel="sms"):
    """Code → the number that asks the stand-in for it."""
    return {
        (row.reason or row.report): marked_number(provider, row.name)
        for row in TABLES[provider]
        if row.name.startswith(f"{kind}:") and row.channel in ("", channel)
    }


def sent(adapter, secret, endpoint, numbers, content=TEXT):
    """Send to all of them; code → result."""
    ids = {str(uuid4()): code for code in numbers}
    deliveries = [
        Delivery(message_id, number if number.startswith("+") else f"+82{number[1:]}", content)
        for message_id, number in zip(ids, numbers.values(), strict=True)
    ]
    sender = adapter.open(secret, endpoint)
    try:
        found = {ids[result.message_id]: result for result in sender.send(iter(deliveries))}
    finally:
        sender.close()
    return found, ids


def endpoint_of(sandbox, report_url=""):
    return Endpoint(url=sandbox.url, ca_file=str(sandbox.ca_file), report_url=report_url, connections=8)


def check_replies(results, table):
    assert set(results) >= set(table) - {"0", "4000", "2000", "1000"}
    for code, result in results.items():
        verdict = table[code]
        expected = (verdict.outcome, verdict.subscription_status, verdict.soft_status, verdict.message_status, code)
        found = (result.outcome, result.subscription_status, result.soft_status, result.message_status, result.reason)
        assert found == expected


def check_reports(reports, table):
    for code, report in reports.items():
        verdict = table[code]
        if verdict.outcome is Outcome.ACCEPTED:
            assert report.kind is ReportKind.DELIVERED
            continue
        assert (report.kind, report.reason) == (ReportKind.FAILED, code)
        assert (report.subscription_status, report.soft_status) == (verdict.subscription_status, verdict.soft_status)
        assert report.fault == verdict.fault
        assert (report.details or {}).get("code") == verdict.message_status


def hooked(parse, post, secret):
    headers = {name.lower(): value for name, value in post["headers"].items()}
    query = dict(part.split("=", 1) for part in post["url"].partition("?")[2].split("&") if part)
    return parse(Hook(uuid4(), secret, post["url"], query, headers, post["body"].encode(), "application/json"))


def test_every_code_of_solapi(solapi_sandbox):
    control, account = reset_gateway(solapi_sandbox).control, SolapiAccount()
    control.register_keys(account.registration())
    control.register_senders("0212345678")
    control.report_to("http://127.0.0.1:9/", secret=account.webhook_secret)
    control.settings(report_attempts=1)
    secret = {"api_key": account.api_key, "api_secret": account.api_secret, "from": "0212345678"}
    text_codes = {code: v for code, v in SOLAPI.items() if code in named("solapi", "refused")}
    results, _ = sent(SolapiAdapter(), secret, endpoint_of(solapi_sandbox), named("solapi", "refused"))
    check_replies(results, text_codes)
    results, ids = sent(SolapiAdapter(), secret, endpoint_of(solapi_sandbox), named("solapi", "reported"))
    assert {r.outcome for r in results.values()} == {Outcome.ACCEPTED}
    posts = control.wait_for_reports()["log"]
    secret["webhook_secret"] = account.webhook_secret
    reports = {ids[r.message_id]: r for post in posts for r in hooked(solapi.parse, post, secret).reports}
    check_reports(reports, SOLAPI)
    assert set(named("solapi", "reported")) - set(reports) == {"2000", "3000"}


def test_every_code_of_twilio(twilio_sandbox):
    control, account = reset_gateway(twilio_sandbox).control, TwilioAccount()
    control.register_keys(account.registration())
    control.register_senders("+15005550006")
    control.settings(report_attempts=1)
    secret = {"account_sid": account.account_sid, "auth_token": account.auth_token, "from": "+15005550006"}
    results, _ = sent(TwilioAdapter(), secret, endpoint_of(twilio_sandbox), named("twilio", "refused"))
    check_replies(results, TWILIO)
    endpoint = endpoint_of(twilio_sandbox, "http://127.0.0.1:9/webhooks/twilio/1")
    _, ids = sent(TwilioAdapter(), secret, endpoint, named("twilio", "reported"))
    posts = control.wait_for_reports()["log"]
    reports = {ids[r.message_id]: r for post in posts for r in hooked(twilio.parse, post, secret).reports}
    certain = {code: report for code, report in reports.items() if code != "20500"}
    check_reports(certain, TWILIO)
    assert set(reports) == set(TWILIO)
    assert reports["20500"].kind is ReportKind.FAILED


def test_every_code_of_nhn(nhn_sandbox):
    control, app = reset_gateway(nhn_sandbox).control, NhnApp(service="sms")
    control.register_keys(app.registration())
    control.register_senders("0212345678")
    control.report_to("http://127.0.0.1:9/", secret=app.webhook_signature)
    control.settings(report_attempts=1)
    secret = {"app_key": app.app_key, "secret_key": app.secret_key, "from": "0212345678"}
    results, _ = sent(NhnSmsAdapter(), secret, endpoint_of(nhn_sandbox), named("nhn", "refused"))
    check_replies(results, NHN_SMS_REPLIES)
    numbers = named("nhn", "reported") | {f"dlr_{code}": n for code, n in named("nhn", "receipt").items()}
    results, ids = sent(NhnSmsAdapter(), secret, endpoint_of(nhn_sandbox), numbers)
    posts = control.wait_for_reports()["log"]
    secret["webhook_signature"] = app.webhook_signature
    found = [hooked(nhn.parse_sms, post, secret) for post in posts]
    reports = {ids[r.message_id]: r for one in found for r in one.reports}
    check_reports({code: r for code, r in reports.items() if not code.startswith("dlr_")}, NHN_SMS_REPORTS)
    places = {(r.request_id, r.provider_message_id): code for code, r in results.items()}
    receipts = {places[tuple(reference)]: r for one in found for reference, r in one.by_reference}
    check_reports(receipts, {f"dlr_{code}": verdict for code, verdict in NHN_RECEIPTS.items()})
    assert {*reports} >= set(NHN_SMS_REPORTS)
    assert {*receipts} == {f"dlr_{code}" for code in NHN_RECEIPTS}


def alimtalk(control, provider, **registration):
    """A profile and a template that the stand-in knows, and the content that names them."""
    control.register_profiles({"id": "KA01PF", **registration})
    approved = "APPROVED" if provider == "solapi_kakao" else "TSC03"
    control.register_templates({"id": "T1", "profile": "KA01PF", "name": "n", "content": "Hi", "status": approved})
    control.settings(report_attempts=1)
    resolved = {"sender_key": "KA01PF", "code": "T1", "content": "Hi", "names": []}
    return Content(body="Hi", options={"template_code": "T1", "resolved": {provider: resolved}})


def test_every_code_of_alimtalk_by_solapi(solapi_sandbox):
    control, account = reset_gateway(solapi_sandbox).control, SolapiAccount()
    control.register_keys(account.registration())
    control.report_to("http://127.0.0.1:9/", secret=account.webhook_secret)
    content = alimtalk(control, "solapi_kakao")
    secret = {"api_key": account.api_key, "api_secret": account.api_secret}
    endpoint, adapter = endpoint_of(solapi_sandbox), SolapiKakaoAdapter()
    results, _ = sent(adapter, secret, endpoint, named("solapi", "refused", "kakao"), content)
    check_replies(results, SOLAPI)
    _, ids = sent(adapter, secret, endpoint, named("solapi", "reported", "kakao"), content)
    secret["webhook_secret"] = account.webhook_secret
    posts = control.wait_for_reports()["log"]
    reports = {ids[r.message_id]: r for post in posts for r in hooked(solapi.parse, post, secret).reports}
    check_reports(reports, SOLAPI)
    assert set(reports) == set(SOLAPI) - {"2000", "3000"}
    assert not control.findings()


def test_every_code_of_alimtalk_by_nhn(nhn_sandbox):
    control, app = reset_gateway(nhn_sandbox).control, NhnApp(service="kakao")
    control.register_keys(app.registration())
    control.report_to("http://127.0.0.1:9/", secret=app.webhook_signature)
    content = alimtalk(control, "nhn_kakao", account=app.app_key)
    secret = {"app_key": app.app_key, "secret_key": app.secret_key}
    endpoint, adapter = endpoint_of(nhn_sandbox), NhnKakaoAdapter()
    results, _ = sent(adapter, secret, endpoint, named("nhn", "kakao-refused", "kakao"), content)
    check_replies(results, {code: v for code, v in NHN_KAKAO_REPLIES.items() if code != "-9999"})
    _, ids = sent(adapter, secret, endpoint, named("nhn", "kakao-reported", "kakao"), content)
    secret["webhook_signature"] = app.webhook_signature
    posts = control.wait_for_reports()["log"]
    reports = {ids[r.message_id]: r for post in posts for r in hooked(nhn.parse_kakao, post, secret).reports}
    check_reports(reports, NHN_KAKAO_REPORTS)
    assert set(NHN_KAKAO_REPORTS) - set(reports) == {"3005", "4000", "4001", "4161"}
    assert not control.findings()
