"""The in-app adapter: what it refuses, and how it hands slices to the inbox."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest
from django.db import OperationalError

from apps.messaging.adapters import in_app
from apps.messaging.adapters.base import Content, ContentError, CredentialError, Delivery, Endpoint, Outcome
from apps.messaging.adapters.in_app import SLICE, InAppAdapter
from apps.messaging.adapters.in_app_content import DEFAULTS, is_for_device, shown_options
from automata_signal.ids import new_id

LATER = (datetime.now(UTC) + timedelta(days=1)).isoformat()
EVERYTHING = {
    "layout": "card",
    "image": "https://cdn.example.com/a.png?w=1",
    "landscape_image": "https://cdn.example.com/b.png",
    "background_color": "#ffffff",
    "text_color": "#000000FF",
    "action": {"type": "deep_link", "url": "shop://orders/7"},
    "buttons": [
        {"id": "buy", "text": "Buy", "action": {"type": "url", "url": "https://shop.example.com", "closes": False}},
        {
            "id": "later",
            "text": "나중에",
            "action": {"type": "tag", "tags": {"snoozed": True, "n": 1.5, "gone": None}},
            "text_color": "#112233",
        },
    ],
    "triggers": [
        [{"type": "app_open"}, {"type": "session_length_s", "value": 30}],
        [{"type": "custom", "key": "level", "operator": "greater_or_equal", "value": 3}],
        [{"type": "custom", "key": "plan", "operator": "in", "value": ["free", 1]}],
        [{"type": "custom", "key": "seen", "operator": "not_exists"}],
        [
            {"type": "event", "name": "purchase", "params": {"currency": "KRW"}},
            {"type": "time_since_last_s", "value": 0},
        ],
    ],
    "frequency": {"limit": 3, "minimum_gap_s": 3_600, "per_session": 1},
    "priority": 1,
    "period": {"starts_at": None, "ends_at": LATER},
    "app_version": {"min": "2.0", "max": "3.10.1"},
    "languages": ["ko", "pt-BR", "zh_Hant_TW"],
    "is_test": True,
}


def check(options=None, title="Hi", body="There", **content):
    InAppAdapter().check_content(Content(title, body, options=options or {}, **content))


def test_everything_that_can_be_said_at_once():
    check(EVERYTHING, data={"order": {"id": 7}})
    assert shown_options(EVERYTHING) == EVERYTHING
    assert set(EVERYTHING) == set(DEFAULTS)


def test_what_is_not_given_has_its_default():
    shown = shown_options({"frequency": {"limit": 2}})
    assert shown == {**DEFAULTS, "frequency": {"limit": 2, "minimum_gap_s": 0, "per_session": None}}


def button(**changes):
    return {"buttons": [{"id": "a", "text": "Go", "action": {"type": "close"}, **changes}]}


def trigger(**condition):
    return {"triggers": [[condition]]}


BAD = [
    ({"colour": "#fff"}, "options.colour"),
    ({"layout": "popup"}, "options.layout"),
    ({"layout": 1}, "options.layout"),
    ({"layout": "card"}, "options.image"),
    ({"layout": "image_only"}, "options.image"),
    ({"image": "http://cdn.example.com/a.png"}, "options.image"),
    ({"image": "data:image/png;base64,AAAA"}, "options.image"),
    ({"image": "https://user:secret@cdn.example.com/a.png"}, "options.image"),
    ({"image": "https://cdn.example.com/a b.png"}, "options.image"),
    ({"image": "https://[half"}, "options.image"),
    ({"image": "https://"}, "options.image"),
    ({"image": "https://cdn.example.com/" + "a" * 2_048}, "options.image"),
    ({"image": None}, "options.image"),
    ({"background_color": "white"}, "options.background_color"),
    ({"background_color": "#fff"}, "options.background_color"),
    ({"text_color": "#12345g"}, "options.text_color"),
    ({"text_color": "#123456\n"}, "options.text_color"),
    ({"buttons": [button()["buttons"][0]] * 3}, "options.buttons"),
    ({"buttons": {"id": "a"}}, "options.buttons"),
    ({"buttons": ["a"]}, "options.buttons[0]"),
    ({"buttons": [button()["buttons"][0]] * 2}, "options.buttons[1].id"),
    ({"layout": "inbox_only", **button()}, "options.buttons"),
    (button(id=""), "options.buttons[0].id"),
    (button(id="a b"), "options.buttons[0].id"),
    (button(text="   "), "options.buttons[0].text"),
    (button(text="a" * 51), "options.buttons[0].text"),
    (button(text="a\0"), "options.buttons[0].text"),
    (button(text="\ud800"), "options.buttons[0].text"),
    (button(style="big"), "options.buttons[0].style"),
    ({"buttons": [{"id": "a", "text": "Go"}]}, "options.buttons[0].action"),
    (button(action={"type": "script"}), "options.buttons[0].action.type"),
    (button(action={"type": ["url"]}), "options.buttons[0].action.type"),
    (button(action="close"), "options.buttons[0].action"),
    (button(action={"type": "url"}), "options.buttons[0].action.url"),
    (button(action={"type": "close", "url": "https://a.example.com"}), "options.buttons[0].action.url"),
    (button(action={"type": "url", "url": "javascript:alert(1)"}), "options.buttons[0].action.url"),
    (button(action={"type": "url", "url": "JavaScript:alert(1)"}), "options.buttons[0].action.url"),
    (button(action={"type": "url", "url": "java\tscript:alert(1)"}), "options.buttons[0].action.url"),
    (button(action={"type": "url", "url": " https://a.example.com"}), "options.buttons[0].action.url"),
    (button(action={"type": "url", "url": "//a.example.com"}), "options.buttons[0].action.url"),
    (button(action={"type": "url", "url": "http://a.example.com"}), "options.buttons[0].action.url"),
    (button(action={"type": "url", "url": "https:\\\\a.example.com"}), "options.buttons[0].action.url"),
    (button(action={"type": "url", "url": "shop://orders"}), "options.buttons[0].action.url"),
    (button(action={"type": "deep_link", "url": "javascript://shop/%0aalert(1)"}), "options.buttons[0].action.url"),
    (button(action={"type": "deep_link", "url": "data:text/html,x"}), "options.buttons[0].action.url"),
    (button(action={"type": "deep_link", "url": "intent://scan/#Intent;end"}), "options.buttons[0].action.url"),
    (button(action={"type": "deep_link", "url": "file:///etc/passwd"}), "options.buttons[0].action.url"),
    (button(action={"type": "deep_link", "url": "orders/7"}), "options.buttons[0].action.url"),
    (button(action={"type": "tag"}), "options.buttons[0].action.tags"),
    (button(action={"type": "tag", "tags": {"a": [1]}}), "options.buttons[0].action.tags.a"),
    (button(action={"type": "tag", "tags": {"": 1}}), "options.buttons[0].action.tags"),
    (button(action={"type": "tag", "tags": {str(n): n for n in range(11)}}), "options.buttons[0].action.tags"),
    (button(action={"type": "permission_prompt", "permission": "root"}), "options.buttons[0].action.permission"),
    ({"triggers": [{"type": "app_open"}]}, "options.triggers[0]"),
    ({"triggers": [[]]}, "options.triggers[0]"),
    ({"triggers": [[{"type": "app_open"}]] * 11}, "options.triggers"),
    (trigger(type="never"), "options.triggers[0][0].type"),
    (trigger(type="app_open", value=1), "options.triggers[0][0].value"),
    (trigger(type="session_length_s"), "options.triggers[0][0].value"),
    (trigger(type="session_length_s", value=-1), "options.triggers[0][0].value"),
    (trigger(type="session_length_s", value=True), "options.triggers[0][0].value"),
    (trigger(type="session_length_s", value=1.5), "options.triggers[0][0].value"),
    (trigger(type="custom", key="a"), "options.triggers[0][0].operator"),
    (trigger(type="custom", key="a", operator="like", value="b"), "options.triggers[0][0].operator"),
    (trigger(type="custom", key="", operator="exists"), "options.triggers[0][0].key"),
    (trigger(type="custom", key="a", operator="exists", value=1), "options.triggers[0][0].value"),
    (trigger(type="custom", key="a", operator="greater"), "options.triggers[0][0].value"),
    (trigger(type="custom", key="a", operator="greater", value="1"), "options.triggers[0][0].value"),
    (trigger(type="custom", key="a", operator="less", value=float("nan")), "options.triggers[0][0].value"),
    (trigger(type="custom", key="a", operator="in", value="a"), "options.triggers[0][0].value"),
    (trigger(type="custom", key="a", operator="in", value=[]), "options.triggers[0][0].value"),
    (trigger(type="custom", key="a", operator="in", value=[{}]), "options.triggers[0][0].value[0]"),
    (trigger(type="custom", key="a", operator="equal", value={}), "options.triggers[0][0].value"),
    (trigger(type="event"), "options.triggers[0][0].name"),
    (trigger(type="event", name="a", params={"b": []}), "options.triggers[0][0].params.b"),
    ({"frequency": {"limit": 0}}, "options.frequency.limit"),
    ({"frequency": {"often": 1}}, "options.frequency.often"),
    ({"frequency": 1}, "options.frequency"),
    ({"priority": 0}, "options.priority"),
    ({"priority": 11}, "options.priority"),
    ({"priority": "1"}, "options.priority"),
    ({"period": {"starts_at": "tomorrow"}}, "options.period.starts_at"),
    ({"period": {"ends_at": "2026-12-01T00:00:00"}}, "options.period.ends_at"),
    ({"period": {"starts_at": "0001-01-01T00:00:00Z"}}, "options.period.starts_at"),
    ({"period": {"starts_at": LATER, "ends_at": LATER}}, "options.period.ends_at"),
    ({"app_version": {"min": "two"}}, "options.app_version.min"),
    ({"app_version": {"min": "2.10", "max": "2.9"}}, "options.app_version.max"),
    ({"app_version": "2"}, "options.app_version"),
    ({"languages": "ko"}, "options.languages"),
    ({"languages": ["korean language"]}, "options.languages[0]"),
    ({"languages": ["ko"] * 51}, "options.languages"),
    ({"is_test": 1}, "options.is_test"),
]


@pytest.mark.parametrize(("options", "field"), BAD)
def test_what_a_device_could_not_show_safely_is_refused_with_its_field(options, field):
    with pytest.raises(ContentError) as refusal:
        check(options)
    assert refusal.value.field == field


@pytest.mark.parametrize(
    ("content", "field"),
    [
        ({"title": 1}, "title"),
        ({"title": "a" * 201}, "title"),
        ({"body": "a" * 4_001}, "body"),
        ({"body": "a\0"}, "body"),
        ({"title": "", "body": ""}, "body"),
        ({"title": "", "options": {"layout": "card", "image": "https://a.example.com"}}, "title"),
        ({"data": []}, "data"),
        ({"data": {"a": "b" * 16_384}}, "body"),
        ({"data": {"a": "\0"}}, "data.a"),
    ],
)
def test_words_are_bounded(content, field):
    with pytest.raises(ContentError) as refusal:
        check(**content)
    assert refusal.value.field == field


@pytest.mark.parametrize(
    ("options", "version", "language", "fits"),
    [
        ({}, "", "", True),
        ({"app_version": {"min": "1.10"}}, "1.9", "", False),
        ({"app_version": {"min": "1.10"}}, "v1.10.0-beta", "", True),
        ({"app_version": {"max": "1.10"}}, "1.10.0", "", True),
        ({"app_version": {"max": "1.10"}}, "1.10.1", "", False),
        ({"app_version": {"min": "0"}}, "", "", False),
        ({"app_version": {"min": None, "max": None}}, "", "", True),
        ({"languages": ["pt"]}, "", "pt_BR", True),
        ({"languages": ["pt-BR"]}, "", "pt", False),
        ({"languages": ["pt"]}, "", "pts", False),
        ({"languages": ["ko"]}, "", "", False),
    ],
)
def test_versions_and_languages(options, version, language, fits):
    assert is_for_device(options, app_version=version, language=language) == fits


def test_there_is_no_secret():
    InAppAdapter().check_secret({})
    assert InAppAdapter().summarise_secret({}) == {}
    with pytest.raises(CredentialError):
        InAppAdapter().check_secret({"key": "x"})


# --- Sending -------------------------------------------------------------------------------------------------------


@pytest.fixture
def inbox(monkeypatch):
    """What was handed over, slice by slice."""
    slices: list[list[in_app.Placement]] = []
    monkeypatch.setattr(in_app, "_inbox", [lambda placements: slices.append(list(placements))])
    return slices


def send(deliveries):
    return list(InAppAdapter().open({}, Endpoint("")).send(deliveries))


def delivery(content=None, expires_in_s=3_600.0):
    expires_at = time.time() + expires_in_s if expires_in_s else 0.0
    return Delivery(str(new_id()), "", content or Content("Hi", "There"), 0, expires_at)


def test_deliveries_go_to_the_inbox_in_slices(inbox):
    content = Content("Hi", "There")
    results = send(delivery(content) for _ in range(SLICE + 10))
    assert [len(one) for one in inbox] == [SLICE, 10]
    assert [result.message_id for result in results] == [one.message_id for of_slice in inbox for one in of_slice]
    assert {result.outcome for result in results} == {Outcome.ACCEPTED}


def test_nobody_waits_for_company(inbox):
    sending = InAppAdapter().open({}, Endpoint("")).send(iter([delivery(), None, delivery(), None]))
    assert next(sending).outcome is Outcome.ACCEPTED
    assert [len(one) for one in inbox] == [1]
    assert len(list(sending)) == 1


def test_a_database_that_refuses_is_asked_again(monkeypatch):
    def refuse(placements):
        raise OperationalError("away")

    monkeypatch.setattr(in_app, "_inbox", [refuse])
    assert {(r.outcome, r.reason) for r in send([delivery(), delivery()])} == {(Outcome.TRANSIENT, "inbox_away")}


def test_each_is_seen_until_its_time_to_live_or_its_period_ends(inbox):
    ends = datetime.now(UTC).replace(microsecond=0) + timedelta(minutes=10)
    period = {"period": {"ends_at": ends.isoformat()}}
    for one in (delivery(Content("a", options=period)), delivery(), delivery(expires_in_s=0)):
        send([one])
    until = [placed.expires_at - datetime.now(UTC) for (placed,) in inbox]
    assert inbox[0][0].expires_at == ends
    assert [round(left.total_seconds(), -1) for left in until[1:]] == [3_600, 60]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (Content("x" * 201), "invalid title"),
        (Content("Hi", options={"period": {"ends_at": "2020-01-01T00:00:00Z"}}), "never_seen"),
        (Content("Hi", options={"period": {"starts_at": LATER}}), "never_seen"),
    ],
)
def test_what_could_not_be_seen_is_the_senders_fault(inbox, content, reason):
    """Rendered words may be too long."""
    (result,) = send([delivery(content)])
    assert (result.outcome, result.reason, inbox) == (Outcome.PAYLOAD_REJECTED, reason, [])
