"""Channels and templates in step with the provider, registering and inspection: by the API, the console and events."""

import pytest
from django.urls import reverse

from apps.messaging.kakao.models import KakaoChannel, KakaoTemplate
from apps.messaging.kakao.services import kakao_sync, sync_all
from apps.tenants.models import Role
from apps.tenants.services import membership_set, operator_create
from tests.messaging.kakao.conftest import PROFILE, TEXT, registered
from tests.messaging.sms.test_reports import replayed

pytestmark = pytest.mark.django_db


def shown(server):
    return server.get("kakao/templates").json()["data"]


def test_channels_and_templates_are_read_from_the_provider(kakao, server, stranger):
    (channel,) = server.get("kakao/channels").json()["data"]
    assert (channel["sender_key"], channel["search_id"], channel["state"]) == (PROFILE, "@shop", "active")
    (template,) = shown(server)
    assert (template["code"], template["content"], template["state"]) == ("T1", TEXT, "approved")
    assert template["variables"] == ["name", "order"]
    assert template["buttons"] == [{"type": "WL", "name": "보기", "link_mobile": "https://shop.example/o/#{order}"}]
    assert stranger.get("kakao/templates").json()["data"] == []
    assert stranger.get(f"kakao/templates/{template['id']}").status_code == 404


def test_what_is_no_longer_at_the_provider_is_no_longer_used(kakao, server):
    kakao.control.reset("templates")
    assert server.post("kakao/sync").json()["data"] == {"channels": 1, "templates": 0, "failed": 0}
    assert [(t["state"], t["is_usable"]) for t in shown(server)] == [("gone", False)]
    kakao.control.reset("profiles")
    assert sync_all() == 1
    assert KakaoChannel.objects.get().state == "gone"


def test_inspection_is_kept_in_step(kakao, server):
    state, comment = {"solapi": ("REJECTED", "변수"), "nhn": ("TSC04", "변수")}[kakao.name]
    registered(kakao, kakao.name, status=state, comment=comment)
    server.post("kakao/sync")
    (template,) = shown(server)
    assert (template["state"], template["comments"][-1]["text"]) == ("rejected", "변수")
    asked = server.post(f"kakao/templates/{template['id']}/inspection", {"comment": "고쳤습니다"})
    assert (asked.status_code, asked.json()["data"]["state"]) == (200, "reviewing")
    taken = server.delete(f"kakao/templates/{template['id']}/inspection")
    if kakao.name == "solapi":
        assert (taken.status_code, taken.json()["data"]["state"]) == (200, "draft")
        assert server.delete(f"kakao/templates/{template['id']}").status_code == 204
        assert shown(server) == []
    else:
        assert (taken.status_code, taken.json()["error"]["code"]) == (409, "PROVIDER_REFUSED")


def test_a_template_is_registered_and_inspected(kakao, server):
    channel = server.get("kakao/channels").json()["data"][0]
    button = {"type": "WL", "name": "열기", "link_mobile": "https://shop.example/"}
    given = {"channel_id": channel["id"], "name": "new", "content": "#{name}님 환영합니다", "buttons": [button]}
    code = {"code": "welcome-1"} if kakao.name == "nhn" else {}
    answer = server.post("kakao/templates", given | code)
    assert answer.status_code == 201, answer.content
    template = answer.json()["data"]
    assert template["buttons"] == [button]
    assert template["state"] == {"solapi": "draft", "nhn": "requested"}[kakao.name]
    if kakao.name == "solapi":
        inspected = server.post(f"kakao/templates/{template['id']}/inspection", {})
        assert inspected.json()["data"]["state"] == "reviewing"
    approved = next(t for t in shown(server) if t["code"] == "T1")
    assert server.delete(f"kakao/templates/{approved['id']}").json()["error"]["code"] == "TEMPLATE_STATE"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"content": "#{name"}, "content"),
        ({"content": "#{}"}, "content"),
        ({"content": " "}, "content"),
        ({"content": "".join(f"#{{v{n}}}" for n in range(41))}, "content"),
        ({"buttons": [{"type": "WL", "name": "x"}]}, "buttons.0.link_mobile"),
        ({"buttons": [{"type": "WL", "name": "x", "link_mobile": "javascript:alert(1)"}]}, "buttons.0.link_mobile"),
        ({"buttons": [{"type": "ZZ", "name": "x"}]}, "buttons.0.type"),
        ({"buttons": [{"type": "BK", "name": "x" * 15}]}, "buttons.0.name"),
        ({"code": "a/b"}, "code"),
    ],
)
def test_what_kakao_would_refuse_is_refused_with_its_field(nhn, server, application, changes, field):
    kakao_sync(application=application)
    channel = server.get("kakao/channels").json()["data"][0]
    given = {"channel_id": channel["id"], "code": "c", "name": "n", "content": "c"} | changes
    answer = server.post("kakao/templates", given)
    assert (answer.status_code, answer.json()["error"]["details"][0]["field"]) == (400, field)


def test_a_decision_that_nhn_tells_counts_at_once(nhn, server, application, django_capture_on_commit_callbacks):
    registered(nhn, "nhn", status="TSC02")
    kakao_sync(application=application)
    nhn.control.report_to("http://127.0.0.1:9/", secret=nhn.credential.secret["webhook_signature"])
    nhn.control.reset("reports")
    registered(nhn, "nhn", status="TSC03", comment="승인")
    assert replayed(nhn) == [204]
    template = KakaoTemplate.objects.get()
    assert (template.state, template.comments[-1]["text"]) == ("approved", "승인")


def test_a_provider_that_is_away_is_said_so(nhn, server, settings):
    settings.NHN_KAKAO_URL = "https://127.0.0.1:9"
    answer = server.post("kakao/sync")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "UNAVAILABLE")


def test_an_operator_registers_and_inspects_at_the_console(solapi, client, application):
    registered(solapi, "solapi")
    kakao_sync(application=application)
    operator = operator_create(email="owner@example.com", password="a long enough one", name="Owner")
    membership_set(operator=operator, application=application, role=Role.OWNER)
    client.force_login(operator)
    form = {
        "application": str(application.pk),
        "channel": str(KakaoChannel.objects.get().pk),
        "code": "",
        "name": "welcome",
        "content": "#{name}님",
        "title": "",
        "subtitle": "",
        "extra": "",
        "category": "",
        **{"button1_type": "WL", "button1_name": "열기", "button1_scheme_ios": "of another type"},
    }
    place = reverse("admin:messaging_kakaotemplate_add")
    late = client.post(place, {**form, "button1_type": "", "button3_type": "AC"})
    assert list(late.context["adminform"].form.errors) == ["button1_type"]
    without = client.post(place, form)
    assert list(without.context["adminform"].form.errors) == ["button1_link_mobile"]
    answer = client.post(place, {**form, "button1_link_mobile": "https://shop.example/"})
    assert answer.status_code == 302, answer.context["adminform"].form.errors
    template = KakaoTemplate.objects.get(name="welcome")
    assert template.state == "draft"
    assert template.buttons == [{"type": "WL", "name": "열기", "link_mobile": "https://shop.example/"}]
    button = reverse("admin:messaging_kakaotemplate_do", args=(template.pk, "inspect"))
    client.post(button, {"comment": "", "confirm": "1", "_confirm": "1"})
    template.refresh_from_db()
    assert template.state == "reviewing"
    page = client.get(reverse("admin:messaging_kakaotemplate_change", args=(template.pk,)))
    assert "열기" in page.content.decode()
