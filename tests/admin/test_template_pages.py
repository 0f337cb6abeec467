"""Templates at the console: words by channel and language, versions, what differs, and where they are used."""

from __future__ import annotations

import pytest
from django.urls import reverse

from apps.campaigns.services import campaign_create
from apps.messaging.models import MessageTemplate
from apps.messaging.template_versions import Piece, changes_between, compared
from apps.tenants.models import Role
from tests.admin.pages import address, button, page_of, text_of
from tests.admin.test_rows import errors_of


@pytest.fixture
def template(world) -> MessageTemplate:
    return world["messaging.MessageTemplate"]


def reread(template: MessageTemplate) -> MessageTemplate:
    return MessageTemplate.objects.get(pk=template.pk)


def filled(template: MessageTemplate, **changes) -> dict[str, str]:
    given = {"name": template.name, "is_active": "on", "title": "Bye {{ name }}", "body": "B", "badge": "2"}
    return given | changes


def versions_of(template: MessageTemplate, query: str = "") -> str:
    return reverse("admin:messaging_messagetemplate_versions", args=[template.pk]) + query


def test_words_for_every_channel_are_a_new_version(template, member):
    marketer = member(Role.MARKETER)
    assert marketer.post(page_of(template), filled(template)).status_code == 302
    changed = reread(template)
    assert (changed.version, changed.title_template, changed.options) == (3, "Bye {{ name }}", {"badge": 2})
    assert marketer.post(page_of(template), filled(template, description="only this")).status_code == 302
    assert reread(template).version == 3


def test_the_ends_of_lines_that_browsers_send_are_no_new_words(template, member):
    MessageTemplate.objects.filter(pk=template.pk).update(body_template="One\ntwo")
    marketer = member(Role.MARKETER)
    given = filled(template, title=template.title_template, badge="", body="One\r\ntwo")
    given["badge"] = str(template.options.get("badge", ""))
    assert marketer.post(page_of(template), given).status_code == 302
    assert reread(template).body_template == "One\ntwo"
    assert reread(template).version == template.version


def test_a_channel_and_a_language_have_words_of_their_own(template, member):
    marketer = member(Role.MARKETER)
    mail = filled(template, title="Hi", body="<p>Hello {{ name }}</p>", preheader="Look")
    del mail["badge"]
    place = f"{page_of(template)}?channel=email"
    assert "used:" in text_of(marketer.get(place))
    assert marketer.post(place, mail).status_code == 302
    assert reread(template).variants == [
        {
            "channel": "email",
            "language": "",
            "title": "Hi",
            "body": "<p>Hello {{ name }}</p>",
            "data": {},
            "options": {"preheader": "Look"},
        }
    ]
    assert reread(template).title_template == "Hi {{ name }}"
    assert "Look" in text_of(marketer.get(place))
    assert marketer.post(place, mail | {"_remove_words": "1"}).status_code == 302
    assert reread(template).variants == []


def test_a_language_has_words_and_keeps_what_nobody_sees_of_it(template, member):
    marketer = member(Role.MARKETER)
    stored = {"channel": "", "language": "ko", "title": "안녕", "body": "", "data": {"a": 1}, "options": {"badge": 3}}
    MessageTemplate.objects.filter(pk=template.pk).update(variants=[stored])
    place = f"{page_of(template)}?language=ko"
    shown = text_of(marketer.get(place))
    assert 'name="badge"' not in shown
    assert "안녕" in shown
    given = {"name": template.name, "is_active": "on", "title": "반가워요", "more_data": '{"a": 1}'}
    assert marketer.post(place, given).status_code == 302
    assert reread(template).variants == [stored | {"title": "반가워요"}]


def test_a_template_begins_on_the_channel_that_one_wants(world, member):
    given = {
        "application": str(world.application.pk),
        "name": "Mail",
        "is_active": "on",
        "title": "S",
        "body": "<p>x</p>",
    }
    marketer = member(Role.MARKETER)
    assert marketer.post(address("messaging.MessageTemplate", "add") + "?channel=email", given).status_code == 302
    made = MessageTemplate.objects.get(name="Mail")
    assert (made.title_template, made.variants[0]["channel"]) == ("", "email")


def test_a_refusal_stands_at_the_field_that_it_names(template, member):
    marketer = member(Role.MARKETER)
    wrong = errors_of(marketer.post(page_of(template), filled(template, body="{{ name")))
    assert list(wrong) == ["body"]
    assert "line 1" in wrong["body"][0]
    for field, value in {"collapse_key": "two words", "image": "http://x.example/", "more_options": '{"x": 1}'}.items():
        assert list(errors_of(marketer.post(page_of(template), filled(template, **{field: value})))) == [field]
    place = f"{page_of(template)}?channel=email"
    wrong = errors_of(
        marketer.post(place, {"name": "n", "is_active": "on", "title": "S", "body": "<p>{{ x", "reply_to": ""})
    )
    assert list(wrong) == ["body"]
    assert list(errors_of(marketer.post(place, {"name": "n", "title": "S", "body": "x", "reply_to": "no"}))) == [
        "reply_to"
    ]
    assert reread(template).version == 2


def test_who_may_only_read_sees_the_words_and_no_fields(template, member):
    shown = text_of(member(Role.ANALYST).get(page_of(template)))
    assert "Hi Jimin Kim" in shown
    assert 'name="title"' not in shown
    assert member(Role.SUPPORT).get(page_of(template)).status_code == 403


def test_versions_show_what_differs_and_an_old_one_is_taken_up_again(template, member):
    marketer = member(Role.MARKETER)
    shown = text_of(marketer.get(versions_of(template)))
    assert "<ins>" in shown
    assert "2</ins>" in shown
    restore = reverse("admin:messaging_messagetemplate_restore", args=[template.pk, 1])
    assert marketer.get(restore).status_code == 302
    assert reread(template).version == 2
    assert marketer.post(restore).status_code == 302
    assert (reread(template).version, reread(template).body_template) == (3, "Aurora body")
    gone = reverse("admin:messaging_messagetemplate_restore", args=[template.pk, 99])
    assert "no such version" in text_of(marketer.post(gone, follow=True))


def test_a_version_is_seen_as_a_user_sees_it(template, member):
    marketer = member(Role.MARKETER)
    assert "Hi Aurora" in text_of(marketer.get(versions_of(template, "?external_id=Aurora-user&to=1")))
    assert "no such user" in text_of(marketer.get(versions_of(template, "?external_id=nobody%00")))
    for odd in ("?to=x&from=9999999999999", "?channel=pigeon&language=%00", "?to=²"):
        assert marketer.get(versions_of(template, odd)).status_code == 200


def test_only_those_who_write_templates_restore_them(template, other, member):
    restore = reverse("admin:messaging_messagetemplate_restore", args=[template.pk, 1])
    assert member(Role.ANALYST).post(restore).status_code == 403
    theirs = other["messaging.MessageTemplate"]
    stranger = member(Role.OWNER)
    assert stranger.get(versions_of(theirs)).status_code == 404
    assert stranger.post(reverse("admin:messaging_messagetemplate_restore", args=[theirs.pk, 1])).status_code == 404
    assert stranger.get(versions_of(template, "?external_id=Borealis-user")).status_code == 200
    assert "Borealis" not in text_of(
        stranger.get(versions_of(template, "?external_id=Borealis-user&channel=push"))
    ).replace("Borealis-user", "")


def test_a_template_is_duplicated_archived_and_brought_back(template, member):
    marketer = member(Role.MARKETER)
    assert marketer.post(button(template, "duplicate")).status_code == 302
    assert marketer.post(button(template, "duplicate")).status_code == 302
    assert MessageTemplate.objects.filter(name__startswith="Aurora template (").count() == 2
    assert marketer.post(button(template, "archive")).status_code == 302
    assert not reread(template).is_active
    assert marketer.post(button(template, "bring_back")).status_code == 302
    assert reread(template).is_active


def test_the_page_says_where_it_is_used(world, template, member):
    campaign_create(application=world.application, name="With it", template_id=template.pk, targeting_criteria={})
    shown = text_of(member(Role.MARKETER).get(page_of(template)))
    assert "Where it is used" in shown
    assert "With it" in shown


def test_words_are_compared_one_by_one():
    assert compared("10 % off until Sunday", "20 % off until Sunday") == [
        Piece("removed", "10"),
        Piece("added", "20"),
        Piece("same", " % off until Sunday"),
    ]
    long = "word " * 5_000
    assert [piece.kind for piece in compared(long + "\na", long + "\nb")] == ["same", "removed", "added"]


def test_only_what_differs_is_told(template):
    new, old = template.versions.all()[:2]
    assert [(c.channel, c.language, c.part) for c in changes_between(old, new)] == [("", "", "body")]
    assert changes_between(new, new) == []


def test_an_alimtalk_template_stands_in_its_bubble(world, member):
    row = world["messaging.KakaoTemplate"]
    shown = text_of(member(Role.MARKETER).get(page_of(row)))
    assert "ap-yellow" in shown
    assert "#{name}" in shown
    assert "Aurora comment" in shown


def test_pages_of_templates_ask_few_questions(template, member, django_assert_max_num_queries):
    marketer = member(Role.MARKETER)
    for place in (page_of(template), f"{page_of(template)}?channel=email", versions_of(template)):
        marketer.get(place)
        with django_assert_max_num_queries(20):
            marketer.get(place)
