"""`/api/v1/templates`: versions, previews, and errors that say where."""

import pytest

from apps.messaging.models import Message, MessageTemplateVersion
from tests.factories import make_subscription, make_user


def create(client, expect=201, **fields):
    response = client.post("templates", {"name": "welcome", "title_template": "Hi {{ name }}"} | fields)
    assert response.status_code == expect, response.content
    return response.json().get("data") or response.json()["error"]


def test_an_edit_of_the_text_is_a_new_version(server):
    template = create(server)
    changed = server.patch(f"templates/{template['id']}", {"title_template": "Hello {{ name }}"}).json()["data"]
    assert changed["version"] == 2
    versions = server.get(f"templates/{template['id']}/versions").json()["data"]
    assert [(v["version"], v["title_template"]) for v in versions] == [(2, "Hello {{ name }}"), (1, "Hi {{ name }}")]
    assert versions[0]["created_by"].startswith("key as_sk_")


def test_an_edit_of_the_name_is_no_new_version(server):
    template = create(server)
    changed = server.patch(f"templates/{template['id']}", {"name": "greeting"}).json()["data"]
    assert (changed["name"], changed["version"]) == ("greeting", 1)
    assert MessageTemplateVersion.objects.count() == 1


@pytest.mark.parametrize(
    ("fields", "field", "place"),
    [
        ({"title_template": "Hi {{ name"}, "title_template", "line 1"),
        ({"body_template": "one\n{% if x %}"}, "body_template", "line 2"),
        ({"data_template": {"a": ["{{ ok }}", {"b": "{% bad %}"}]}}, "data_template.a[1].b", "line 1"),
    ],
)
def test_a_syntax_error_is_found_at_save_with_its_place(server, fields, field, place):
    error = create(server, expect=400, **fields)
    assert error["details"][0]["field"] == field
    assert place in error["details"][0]["message"]


def test_a_broken_edit_changes_nothing(server):
    template = create(server)
    response = server.patch(f"templates/{template['id']}", {"name": "new", "title_template": "{{"})
    assert response.status_code == 400
    assert server.get(f"templates/{template['id']}").json()["data"]["name"] == "welcome"


def test_bad_options_are_refused_with_their_name(server):
    assert create(server, expect=400, options={"badge": -1})["details"][0]["field"] == "options.badge"


def test_a_name_is_taken_once(server):
    create(server)
    assert create(server, expect=409)["code"] == "NAME_TAKEN"


def test_a_preview_shows_what_a_user_would_see(application, server):
    make_user(application, "u-1", name="민수")
    template = create(server, body_template="{{ n | default('0') }} items", data_template={"to": "{{ external_id }}"})
    answer = server.post(f"templates/{template['id']}/preview", {"external_id": "u-1", "variables": {"n": 3}})
    assert answer.json()["data"] == {
        "title": "Hi 민수",
        "body": "3 items",
        "data": {"to": "u-1"},
        "variables": ["external_id", "n", "name"],
        **{"language": "", "problems": [], "shown": {}},
    }


def test_a_draft_can_be_previewed(server):
    answer = server.post("templates/preview", {"title_template": "{{ a.b }}!", "variables": {"a": {"b": 1.0}}})
    assert answer.json()["data"]["title"] == "1!"


def test_a_template_that_loops_is_refused_not_run(server):
    body = {"body_template": "{% for i in range(100000) %}{% for j in range(100000) %}x{% endfor %}{% endfor %}"}
    response = server.post("templates/preview", body)
    assert response.status_code == 400
    assert response.json()["error"]["details"][0]["field"] == "body_template"


def test_an_inactive_template_cannot_be_sent(application, server):
    template = create(server, is_active=False)
    response = server.post("messages", {"recipients": {"external_ids": ["x"]}, "template_id": template["id"]})
    assert response.json()["error"]["details"][0]["field"] == "template_id"


def test_a_template_can_be_deleted(server):
    template = create(server)
    assert server.delete(f"templates/{template['id']}").status_code == 204
    assert server.get(f"templates/{template['id']}").status_code == 404


def test_a_stranger_finds_no_template(server, stranger):
    template = create(server)
    for call in (
        stranger.get(f"templates/{template['id']}"),
        stranger.patch(f"templates/{template['id']}", {"name": "mine"}),
        stranger.delete(f"templates/{template['id']}"),
        stranger.get(f"templates/{template['id']}/versions"),
        stranger.post(f"templates/{template['id']}/preview"),
    ):
        assert call.status_code == 404
    assert stranger.get("templates").json()["data"] == []


# --- Channels and languages ------------------------------------------------------------------------------------------

VARIANTS = [
    {"language": "ko", "title": "안녕", "body": "{{ name }}님, 주문"},
    {"channel": "in_app", "title": "Inbox", "body": "In the app, {{ name }}"},
    {"channel": "in_app", "language": "ko", "title": "앱", "body": "앱에서 {{ name }}님"},
]


def a_template(server, **fields):
    body = {"name": "t", "title_template": "Hello", "body_template": "{{ name }}, your order", "variants": VARIANTS}
    return server.post("templates", {**body, **fields})


@pytest.mark.parametrize(
    ("channel", "language", "expected"),
    [
        ("push", "en", ("Hello", "Kim, your order", "")),
        ("push", "ko-KR", ("안녕", "Kim님, 주문", "ko")),
        ("in_app", "en", ("Inbox", "In the app, Kim", "")),
        ("in_app", "ko", ("앱", "앱에서 Kim님", "ko")),
        ("in_app", "pt_BR", ("Inbox", "In the app, Kim", "")),
    ],
)
def test_each_channel_and_language_has_its_own_words(server, channel, language, expected):
    template = a_template(server).json()["data"]
    body = {"channel_type": channel, "language": language, "variables": {"name": "Kim"}}
    shown = server.post(f"templates/{template['id']}/preview", body).json()["data"]
    assert (shown["title"], shown["body"], shown["language"]) == expected
    assert server.get(f"templates/{template['id']}/versions").json()["data"][0]["variants"] == VARIANTS


def test_each_recipient_gets_the_words_of_their_language(application, server, apns):
    for token, language in (("ab" * 32, "ko-KR"), ("cd" * 32, "fr")):
        user = make_user(application, language, name=language)
        make_subscription(application, token=token, user=user, device_language=language)
    template = a_template(server).json()["data"]
    server.post("messages", {"recipients": {"external_ids": ["ko-KR", "fr"]}, "template_id": template["id"]})
    assert set(Message.objects.values_list("title", "body")) == {
        ("안녕", "ko-KR님, 주문"),
        ("Hello", "fr, your order"),
    }


@pytest.mark.parametrize(
    ("variants", "field"),
    [
        ([{"title": "t"}], "variants.0"),
        ([{"language": "korean!"}], "variants.0.language"),
        ([{"channel": "fax", "title": "t"}], "variants.0.channel"),
        ([{"language": "ko", "colour": "red"}], "variants.0.colour"),
        ([{"language": "ko", "title": 1}], "variants.0.title"),
        ([{"language": "ko"}, {"language": "ko"}], "variants.1"),
        ([{"language": "ko", "body": "{{ 1 2 }}"}], "variants.0.body_template"),
        ([{"channel": "push", "options": {"colour": "red"}}], "variants.0.options.colour"),
    ],
)
def test_a_variant_that_is_wrong_names_its_field(server, variants, field):
    answer = a_template(server, variants=variants)
    assert answer.status_code == 400
    assert [problem["field"] for problem in answer.json()["error"]["details"]] == [field]
