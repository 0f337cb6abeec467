"""What is written comes back from the editor's fields as it was; previews ask nobody and run nothing."""

from __future__ import annotations

import re

import pytest
from django.test import RequestFactory
from django.urls import reverse

from apps.messaging.adapters.email_content import check_html
from apps.messaging.adapters.registry import OPTION_CHECKS
from apps.messaging.console.editor import content_form
from apps.messaging.console.frames import PLACEHOLDER, framed_html
from apps.messaging.console.parts import PARTS, aliases_of, content_of, shown_of
from apps.messaging.console.previews import NOBODY, drawn, preview_fragment
from apps.messaging.console.starters import starters
from apps.messaging.services import template_create
from apps.subscriptions.services import user_create
from apps.tenants.models import Application, Operator, Role
from apps.tenants.services import membership_set
from tests.factories import make_kakao_template

CONTENTS = [
    (
        "push",
        {"title": "Hi {{ name }}", "body": "Line\nline", "data": {"link": "shop://x", "n": {"a": [1]}}, "options": {}},
    ),
    (
        "push",
        {
            "title": "",
            "body": " b ",
            "data": {"link": 7},
            "options": {
                "image": "https://x.example/a.png",
                "badge": 0,
                "sound": "ding",
                "priority": "normal",
                "silent": True,
                "collapse_key": "k",
                "subtitle": "s",
                "thread_id": "t",
                "category": "c",
                "channel_id": "n",
                "click_action": "a",
            },
        },
    ),
    ("push", {"title": "t", "body": "", "data": {}, "options": {"badge": "many", "unknown": [1], "priority": "odd"}}),
    (
        "email",
        {
            "title": "S",
            "body": "<p>Hi</p>",
            "data": {},
            "options": {
                "preheader": "p",
                "format": "text",
                "from_name": "F",
                "reply_to": "a@b.co",
                "text": "x",
                "track_opens": False,
                "track_clicks": True,
                "list_unsubscribe": False,
                "tags": ["a", "b"],
                "headers": {"X-A": "1"},
                "attachments": ["01a22e17-c8ab-7248-8e52-c170445fc1ab"],
            },
        },
    ),
    ("sms", {"title": "T", "body": "안녕", "data": {}, "options": {"type": "lms", "from": "0212345678"}}),
    (
        "kakao_talk",
        {
            "title": "",
            "body": "",
            "data": {"name": "{{ name }}"},
            "options": {
                "template_code": "T1",
                "fallback": {"channel": "sms", "text": "Hi"},
                "sender_key": "k" * 40,
            },
        },
    ),
    (
        "in_app",
        {
            "title": "T",
            "body": "B",
            "data": {"a": 1},
            "options": {
                "layout": "card",
                "image": "https://x.example/a.png",
                "background_color": "#ffffff",
                "text_color": "#000000",
                "action": {"type": "url", "url": "https://x.example/"},
                "buttons": [
                    {
                        "id": "go",
                        "text": "Go",
                        "action": {"type": "deep_link", "url": "shop://go"},
                        "text_color": "#111111",
                    },
                    {"id": "no", "text": "No", "action": {"type": "close"}},
                ],
                "triggers": [[{"type": "app_open"}]],
                "frequency": {"limit": 3, "minimum_gap_s": 60, "per_session": 1},
                "priority": 7,
                "period": {"starts_at": "2026-01-01T00:00:00+09:00"},
                "app_version": {"min": "1.2"},
                "languages": ["ko", "en"],
                "is_test": True,
            },
        },
    ),
    (
        "in_app",
        {
            "title": "T",
            "body": "",
            "data": {},
            "options": {
                "action": {"type": "tag", "tags": {"a": "b"}},
                "buttons": [
                    {"id": "a", "text": "A", "action": {"type": "url", "url": "https://x.example/", "closes": False}}
                ],
            },
        },
    ),
]


@pytest.mark.parametrize("index", range(len(CONTENTS)))
def test_a_stored_content_comes_back_from_the_fields_as_it_was(index):
    channel, content = CONTENTS[index]
    form = content_form(channel)(stored=content)
    posted = {name: form[name].value() for name in form.fields}
    posted = {name: value for name, value in posted.items() if value is not None and value is not False}
    again = content_form(channel)(posted)
    assert again.is_valid(), again.errors
    assert again.content() == content


@pytest.mark.parametrize("channel", sorted(PARTS))
def test_every_field_of_the_editor_is_an_option_that_the_channel_takes(channel):
    for part in PARTS[channel]:
        source, _dot, path = part.place.partition(".")
        if source == "options":
            with pytest.raises(Exception, match=rf"^(?!.*is not an option).*{path.split('.')[0]}"):
                OPTION_CHECKS[channel]({path.split(".")[0]: object()})


def test_what_has_no_field_stays_in_the_json_of_the_unusual():
    content = CONTENTS[7][1]
    shown = shown_of("in_app", content)
    assert set(shown["more_options"]) == {"action", "buttons"}
    assert content_of("in_app", shown)["options"] == content["options"]


def test_a_refusal_is_shown_at_the_field_that_it_names():
    aliases = aliases_of("push", prefix="variants.2.")
    assert aliases["variants.2.options.badge"] == "badge"
    assert aliases["variants.2.data.link"] == "link"
    assert aliases["variants.2.options"] == "more_options"


def test_starters_are_mails_that_leave():
    for starter in starters():
        check_html(starter["html"])


HOSTILE = """
<img src="https://evil.example/a.png" srcset="https://evil.example/b.png 2x"><img SRC = 'http://evil.example/c.png'>
<img src=//evil.example/d.png><table background="https://evil.example/e.png"><td style="background:url(https://evil.example/f)">
<style>@import url("https://evil.example/g.css"); p { background: url( 'https://evil.example/h' ) }</style>
<link rel="stylesheet" href="https://evil.example/i.css"><meta http-equiv="refresh" content="0;url=https://evil.example/j">
<base href="https://evil.example/"><video poster="https://evil.example/k"></video><iframe src="https://evil.example/l"></iframe>
<img src="&#104;ttps://evil.example/m"><script src="https://evil.example/n"></script>
"""


def test_the_frame_of_a_mail_asks_no_other_host():
    framed = framed_html(HOSTILE)
    assert "evil.example" not in framed
    assert PLACEHOLDER in framed
    own = framed_html('<img src="http://localhost:8000/m/0123.x..mac/a.png"><img src="data:image/png;base64,AAAA">')
    assert 'src="/m/0123.x..mac/a.png"' in own
    assert "data:image/png;base64,AAAA" in own


@pytest.fixture
def shop(application) -> Application:
    user_create(application=application, external_id="jimin", properties={"name": "<b>Jimin</b>", "points": 5})
    return application


def fragment(application, channel, content, **more) -> str:
    return preview_fragment(RequestFactory().get("/"), application, channel, content, **more)


EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"


@pytest.mark.parametrize("channel", sorted(PARTS))
def test_nothing_that_was_written_is_markup(shop, channel):
    data = {EVIL: EVIL, "link": EVIL}
    options = {"from_name": EVIL, "from": EVIL, "subtitle": EVIL, "image": EVIL, "text_color": EVIL, "layout": EVIL}
    shown = fragment(shop, channel, {"title": EVIL, "body": EVIL, "data": data, "options": options})
    drawing = drawn(
        shop, channel, {"title": EVIL, "body": EVIL, "data": data, "options": {**options, "buttons": [EVIL]}}
    )
    from django.template.loader import render_to_string

    shown += render_to_string(drawing["template"], {"preview": drawing})
    assert "<script" not in shown
    assert "<img src=x" not in shown
    assert not re.findall(r'(?:src|href)="(?:https?:)?//', shown)


def test_a_mail_stands_in_a_frame_without_rights(shop):
    shown = fragment(shop, "email", {"title": "Hi", "body": "<p>Hello {{ name }}</p>", "data": {}, "options": {}})
    frame = re.search(r"<iframe[^>]*>", shown)
    assert frame
    assert re.search(r"\ssandbox\s", frame[0])
    assert "&lt;p" in frame[0]
    assert "Jimin Kim" in frame[0]


def test_errors_are_said_with_their_line(shop):
    shown = fragment(shop, "push", {"title": "Hi", "body": "one\n{{ name", "data": {}, "options": {}})
    assert "Text, line 2" in shown
    shown = fragment(shop, "push", {"title": "Hi", "body": "There", "data": {}, "options": {"badge": "many"}})
    assert "Number on the app&#x27;s icon: must be a whole number" in shown
    assert "There" in shown


def test_it_is_seen_as_a_user_sees_it_or_somebody_made_up_or_nobody(shop):
    content = {
        "title": "{{ name }}",
        "body": "{{ points|number }} {{ city|default('somewhere') }}",
        "data": {},
        "options": {},
    }
    assert "Jimin Kim" in fragment(shop, "push", content)
    assert "somewhere" in fragment(
        shop, "push", {**content, "title": ""} | {"body": "{{ city|default('somewhere') }}"}, person=NOBODY
    )
    user = shop.users.get(external_id="jimin")
    shown = fragment(shop, "push", content, user=user)
    assert "&lt;b&gt;Jimin" in shown
    assert "Nothing is known here" in shown
    assert "city" in shown


def test_an_alimtalk_shows_the_approved_text_and_its_buttons(shop):
    template = make_kakao_template(shop, "Shop")
    template.buttons = [{"type": "WL", "name": "Open", "link_mobile": "https://shop.example/"}]
    template.content = "Hello #{name}"
    template.save()
    content = {"title": "", "body": "", "data": {"name": "{{ name }}"}, "options": {"template_code": "T1"}}
    shown = fragment(shop, "kakao_talk", content)
    assert "Hello Jimin Kim" in shown
    assert "Open" in shown
    missing = fragment(shop, "kakao_talk", {**content, "data": {}})
    assert "is missing" in missing


def test_an_sms_says_how_long_it_is(shop):
    shown = fragment(shop, "sms", {"title": "", "body": "가" * 50, "data": {}, "options": {}})
    assert "LMS" in shown
    assert "100 of 2000" in shown


# --- The view ------------------------------------------------------------------------------------------------------


@pytest.fixture
def visit(client, shop):
    def sign_in(role: str, of: Application = shop):
        operator = Operator.objects.create_user(f"{role}@example.com", None)
        membership_set(operator=operator, application=of, role=role)
        client.force_login(operator)
        return client

    return sign_in


def asked(application, **more) -> dict[str, str]:
    return {"preview-application": str(application.pk), "preview-channel": "push", "title": "Hi {{ name }}", **more}


def test_a_preview_is_for_those_who_may_read_templates(visit, shop, other_application):
    address = reverse("admin:content_preview")
    client = visit(Role.MARKETER)
    assert "Jimin Kim" in client.post(address, asked(shop)).content.decode()
    person = {"preview-person": "user", "preview-external-id": "jimin"}
    assert "&lt;b&gt;Jimin" in client.post(address, asked(shop, **person)).content.decode()
    assert (
        "no such user" in client.post(address, asked(shop, **person | {"preview-external-id": "x\0"})).content.decode()
    )
    assert client.post(address, asked(other_application)).status_code == 404
    assert client.post(address, asked(shop, **{"preview-channel": "pigeon"})).status_code == 404
    assert client.get(address).status_code == 405
    assert visit(Role.SUPPORT).post(address, asked(shop)).status_code == 403


def test_another_applications_user_is_nobody(visit, shop, other_application):
    user_create(application=other_application, external_id="stranger", properties={"name": "Secret"})
    person = {"preview-person": "user", "preview-external-id": "stranger"}
    shown = visit(Role.OWNER).post(reverse("admin:content_preview"), asked(shop, **person)).content.decode()
    assert "Secret" not in shown
    assert "no such user" in shown


def test_what_is_offered_is_the_applications(visit, shop, other_application, django_assert_max_num_queries):
    template_create(application=shop, created_by="t", name="x", title_template="x")
    make_kakao_template(shop, "Shop")
    client = visit(Role.MARKETER)
    address = reverse("admin:content_offers")
    for channel in PARTS:
        with django_assert_max_num_queries(20):
            shown = client.get(address, {"application": str(shop.pk), "channel": channel}).content.decode()
        assert 'data-insert="points"' in shown
        assert ("T1" in shown) == (channel == "kakao_talk")
    assert client.get(address, {"application": str(other_application.pk), "channel": "push"}).status_code == 404


@pytest.mark.parametrize("channel", sorted(PARTS))
def test_whatever_is_typed_as_an_option_is_drawn_or_left_out(application, channel):
    places = {part.place.split(".")[1] for part in PARTS[channel] if part.place.startswith("options.")}
    for name in places | {"fallback", "period", "frequency", "triggers", "headers"}:
        for value in (5, True, None, [], [1], {}, {"a": [1]}, "x", "#12345", [{"text": 1, "action": 2}]):
            for body in ("Hi", ""):
                content = {"title": "T", "body": body, "data": {"a": [1]}, "options": {name: value}}
                drawn(application, channel, content)
                fragment(application, channel, content)
