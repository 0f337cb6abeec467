"""What advertising has to say in Korea, told by field before anything is accepted."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from apps.messaging.content import ContentSource
from apps.messaging.courtesy.advertising import complete_advertising
from apps.tenants.models import Application
from automata_signal.errors import ValidationFailed

KOREAN = {"advertising_rules": "kr", "ad_sender_name": "가게", "ad_opt_out_number": "080-123-4567"}
SMS = "(광고)가게 겨울 세일\n무료수신거부 080-123-4567"
EMAIL = '<p>가게 세일</p><a href="{{ unsubscribe_url }}">수신거부</a>'


def complete(source: ContentSource, **settings) -> ContentSource:
    application = Application(name="Shop", settings=KOREAN | settings)
    return complete_advertising(application, replace(source, purpose=settings.pop("purpose", "marketing")))


def content(channel: str, title: str = "", body: str = "", **fields) -> ContentSource:
    return ContentSource(title, body, channel_type=channel, **fields)


def refused(source: ContentSource, **settings) -> list[str]:
    with pytest.raises(ValidationFailed) as caught:
        complete(source, **settings)
    return [problem.field for problem in caught.value.details]


@pytest.mark.parametrize(
    "source",
    [
        content("sms", "", SMS),
        content("sms", "", "(광고) [가게] 세일 무료거부0801234567"),
        content(
            "sms", "제목", "(광고)\n가게 세일 무료 수신거부: 080 123 4567".replace("080 123 4567", "080-1234-5678")
        ),
        content("push", "(광고) 가게", "세일"),
        content("push", "", "(광고) 가게 세일"),
        content("email", "(광고) 겨울 세일", EMAIL),
        content("in_app", "(광고) 세일", "가게"),
    ],
)
def test_what_is_as_the_law_has_it_is_taken_as_it_is(source):
    assert complete(source) == replace(source, purpose="marketing")


@pytest.mark.parametrize(
    "mark",
    [
        "[광고]",
        "(광 고)",
        "(광.고)",
        "（광고）",
        " (광고)",
        "(광\u200b고)",
        "광고)",
        "<광고>",
        "(AD)",
        "※(광고)",
        "(광고 )",
        "",
    ],
)
def test_other_forms_of_the_mark_are_refused(mark):
    assert refused(content("sms", "", SMS.replace("(광고)", mark))) == ["body"]
    assert refused(content("push", f"{mark} 가게", "세일")) == ["title"]
    assert refused(content("email", f"{mark} 세일", EMAIL)) == ["title"]


@pytest.mark.parametrize(
    ("source", "fields"),
    [
        (content("sms", "", "(광고)세일\n무료수신거부 080-123-4567"), ["body"]),
        (content("sms", "", "(광고)가게 세일"), ["body"]),
        (content("sms", "", "(광고)가게 무료수신거부 080-123-4567 세일"), ["body"]),
        (content("sms", "", "(광고)가게 세일 무료수신거부 02-123-4567"), ["body"]),
        (content("sms", "", "세일"), ["body", "body"]),
        (content("push", "(광고) 세일", "오늘"), ["body"]),
        (content("email", "(광고) 세일", "<p>가게</p>"), ["body"]),
        (content("email", "(광고) 세일", '<a href="{{ unsubscribe_url }}">x</a>'), ["body"]),
        (content("email", "세일", "<p>x</p>"), ["title", "body", "body"]),
        (content("email", "(광고) 세일", EMAIL, options={"list_unsubscribe": False}), ["options.list_unsubscribe"]),
    ],
)
def test_what_is_missing_is_named(source, fields):
    assert refused(source) == fields


def test_every_language_is_looked_at():
    languages = {"en": {"title": "Sale", "body": "가게", "data": {}}}
    assert refused(content("push", "(광고) 가게", "세일", languages=languages)) == ["title"]


def test_alimtalk_is_never_for_advertising():
    for rules in ("kr", "none"):
        assert refused(content("kakao_talk", "", "(광고)"), advertising_rules=rules) == ["purpose"]


def test_who_writes_the_mark_says_that_it_is_advertising():
    application = Application(name="Shop", settings=KOREAN)
    with pytest.raises(ValidationFailed) as caught:
        complete_advertising(application, content("push", "(광고) 가게", "세일"))
    assert caught.value.details[0].field == "purpose"


def test_without_the_setting_nothing_is_asked():
    source = content("push", "Sale", "today")
    assert complete(source, advertising_rules="none") == replace(source, purpose="marketing")


@pytest.mark.parametrize(
    ("source", "title", "body"),
    [
        (content("sms", "", "겨울 세일"), "", "(광고) 가게 겨울 세일\n무료수신거부 080-123-4567"),
        (content("sms", "", "(광고)세일"), "", "(광고) 가게 세일\n무료수신거부 080-123-4567"),
        (content("sms", "", SMS), "", SMS),
        (content("push", "세일", "오늘"), "(광고) 세일", "오늘 [가게]"),
        (content("push", "", "가게 세일"), "", "(광고) 가게 세일"),
    ],
)
def test_what_is_missing_is_added_where_that_is_wanted(source, title, body):
    done = complete(source, ad_mark_add=True)
    assert (done.title, done.body) == (title, body)
    assert complete(done, ad_mark_add=True) == done


def test_an_email_gets_a_footer_before_its_end():
    done = complete(content("email", "세일", "<html><body><p>오늘</p></body></html>"), ad_mark_add=True)
    assert done.title == "(광고) 세일"
    assert done.body.index("가게") < done.body.index("{{ unsubscribe_url }}") < done.body.index("</body>")
    assert complete(done, ad_mark_add=True) == done


def test_a_wrong_mark_is_refused_although_the_right_one_would_be_added():
    assert refused(content("sms", "", "[광고] 가게 세일"), ad_mark_add=True) == ["body"]


@pytest.mark.parametrize("blanks", [" " * 60_000, "\u200b" * 60_000, "(" + " " * 60_000, "(광" + " " * 60_000])
def test_a_text_of_blanks_is_read_in_one_go(blanks):
    began = time.process_time()
    assert refused(content("push", blanks, "세일"))
    assert time.process_time() - began < 2
