"""Alimtalk from an approved template to what is recorded, by both providers."""

import json

import pytest
from django.utils import timezone

from apps.messaging import dispatch
from apps.messaging.content import content_source
from apps.messaging.kakao.models import KakaoTemplate
from apps.messaging.kakao.services import kakao_sync
from apps.messaging.models import DispatchBatch, GatewayRequest, Message
from apps.messaging.receipts.hooks import ask_for_reports
from apps.sandbox.gateway_behaviours import marked_number
from apps.subscriptions.models import Subscription
from automata_signal.errors import ValidationFailed
from tests.factories import make_subscription, make_user
from tests.messaging.kakao.conftest import registered
from tests.messaging.sms.conftest import e164
from tests.messaging.sms.test_reports import replayed

pytestmark = pytest.mark.django_db(transaction=True)
NUMBERS = [f"+8210{n:08}" for n in range(20_000_000, 20_000_005)]


def marked(kakao, code, kind="reported"):
    return e164(marked_number(kakao.name, f"{'kakao-' if kakao.name == 'nhn' else ''}{kind}:{code}"))


def test_the_approved_text_is_sent_with_its_variables_and_without_their_fallback(kakao, send):
    order = send(NUMBERS)
    assert order.body == "김님, 주문 7이 도착했습니다."
    entries = kakao.control.entries(outcome="accepted")
    assert {e["message_id"] for e in entries} == {str(m.pk) for m in Message.objects.all()}
    assert {m.status for m in Message.objects.all()} == {"successful"}
    assert not kakao.control.findings()
    body = json.loads(entries[0]["body"])
    if kakao.name == "solapi":
        options = body["kakaoOptions"]
        assert (body["type"], options["disableSms"]) == ("ATA", True)
        assert options["variables"] == {"#{name}": "김", "#{order}": "7"}
    else:
        assert body["resendParameter"] == {"isResend": False}
        assert (body["templateParameter"], body["text"]) == ({"name": "김", "order": "7"}, order.body)
    assert GatewayRequest.objects.get().message_ids


def test_each_recipient_of_a_template_of_ours_has_variables_of_their_own(kakao, server, application):
    for n, name in enumerate(("Kim", "Lee")):
        user = make_user(application, f"u-{n}", name=name)
        make_subscription(application, type="KakaoTalk", token=NUMBERS[n], user=user)
    template = server.post(
        "templates",
        {
            "name": "arrived",
            "body_template": "Your order is here",
            "variants": [
                {
                    "channel": "kakao_talk",
                    "data": {"name": "{{ name }}", "order": "{{ n }}"},
                    "options": {"template_code": "T1"},
                }
            ],
        },
    ).json()["data"]
    answer = server.post(
        "messages",
        {
            "channel_type": "kakao_talk",
            "template_id": template["id"],
            "variables": {"n": 5},
            "recipients": {"external_ids": ["u-0", "u-1"]},
        },
    )
    assert answer.status_code == 202, answer.content
    assert dispatch.run_batch(DispatchBatch.objects.get().pk)
    bodies = sorted(Message.objects.values_list("body", flat=True))
    assert bodies == ["Kim님, 주문 5이 도착했습니다.", "Lee님, 주문 5이 도착했습니다."]
    assert {m.status for m in Message.objects.all()} == {"successful"}
    assert len(kakao.control.entries(outcome="accepted")) == 2


def test_reports_deliver_end_or_only_tell(kakao, send):
    codes = {"solapi": ("3104", "3103"), "nhn": ("3019", "3016")}[kakao.name]
    gone, template = (marked(kakao, code) for code in codes)
    send([NUMBERS[0], gone, template])
    assert set(replayed(kakao)) == {204}
    fates = {
        m.subscription_id: (m.status, m.error_reason, (m.error_details or {}).get("code"))
        for m in Message.objects.all()
    }
    by_number = {s.token: (fates[s.pk], s.subscription_status) for s in Subscription.objects.all()}
    assert by_number[NUMBERS[0]] == (("received", None, None), 1)
    assert by_number[gone] == (("failed", codes[0], None), -60)
    assert by_number[template] == (("failed", codes[1], -63), 1)


def test_a_provider_that_does_not_report_is_asked(kakao, send):
    kakao.control.settings(reports="off")
    send([NUMBERS[0], marked(kakao, {"solapi": "3107", "nhn": "3020"}[kakao.name])])
    GatewayRequest.objects.update(ask_at=timezone.now())
    assert ask_for_reports() == 1
    assert sorted(Message.objects.values_list("status", flat=True)) == ["failed", "received"]


def test_what_is_uncertain_waits_and_is_not_sent_again(nhn, send):
    nhn.name = "nhn"
    registered(nhn, "nhn")
    kakao_sync(application=nhn.credential.application)
    send([marked(nhn, "3005")])
    assert set(replayed(nhn)) == {204}
    assert Message.objects.get().status == "successful"


@pytest.mark.parametrize("behaviour", ["hang-accepted", "abort-accepted"])
def test_what_may_have_left_is_never_sent_again(kakao, send, behaviour):
    send([e164(marked_number(kakao.name, behaviour))])
    assert Message.objects.get().error_reason == "unknown_outcome"
    assert not kakao.control.duplicates()


# --- What is refused before anything leaves ------------------------------------------------------------------------


def refused(application, **fields):
    given = {"data": {"name": "김", "order": "7"}, "options": {"template_code": "T1"}, **fields}
    with pytest.raises(ValidationFailed) as error:
        content_source(application=application, channel_type="kakao_talk", **given)
    (problem,) = error.value.details
    return problem.field, problem.message


@pytest.mark.parametrize(
    ("fields", "field", "problem"),
    [
        ({"options": {}}, "options.template_code", "names the approved template"),
        ({"options": {"template_code": "T2"}}, "options.template_code", "is no template of this application's"),
        ({"options": {"template_code": "T1", "sound": "x"}}, "options.sound", "is not an option of an Alimtalk"),
        ({"options": {"resolved": {"solapi_kakao": {}}}}, "options.template_code", "names the approved template"),
        ({"data": {"name": "김"}}, "data.order", "is missing: the template says #{order}"),
        ({"data": {"name": "", "order": "1"}}, "data.name", "is empty"),
        ({"data": {"name": ["x"], "order": "1"}}, "data.name", "must be a text or a number"),
        ({"data": {"name": "#{order}", "order": "1"}}, "data.name", "holds #{"),
        ({"data": {"name": "a\0", "order": "1"}}, "data.name", "control character"),
        ({"data": {"name": "가" * 1000, "order": "1"}}, "body", "an Alimtalk has 1000"),
        ({"data": {"name": "x", "order": "1&admin=1"}}, "data.order", "part of a button's address"),
        ({"data": {"name": "x", "order": "../x"}}, "data.order", "part of a button's address"),
        ({"body": "무엇이든"}, "body", "comes from the approved template"),
    ],
)
def test_what_is_not_the_approved_template_is_refused(application, solapi, fields, field, problem):
    registered(solapi, "solapi")
    kakao_sync(application=application)
    found = refused(application, **fields)
    assert (found[0], problem in found[1]) == (field, True), found


def test_a_template_that_is_not_approved_or_dormant_is_refused(application, kakao):
    template = KakaoTemplate.objects.get()
    for changes, problem in (
        ({"state": "reviewing"}, "is not approved: under inspection"),
        ({"state": "approved", "is_dormant": True}, "is dormant"),
    ):
        KakaoTemplate.objects.filter(pk=template.pk).update(**changes)
        assert problem in refused(application)[1]
    KakaoTemplate.objects.filter(pk=template.pk).update(is_dormant=False)
    template.channel.state = "blocked"
    template.channel.save()
    assert "channel that is blocked" in refused(application)[1]


def test_an_advertisement_cannot_be_sent_by_alimtalk(application, kakao):
    assert refused(application, purpose="marketing")[0] == "purpose"
