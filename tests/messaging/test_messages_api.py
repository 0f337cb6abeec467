"""`/api/v1/messages`: what an app server sends, and what it is told."""

from datetime import timedelta

import pytest
from django.utils import timezone

from apps.messaging import dispatch
from apps.messaging.models import DispatchBatch, Message
from apps.subscriptions.models import AppUser, Subscription
from apps.tenants.services import key_create
from automata_signal.celery import app as celery_app
from tests.conftest import ApiClient
from tests.factories import make_messages, make_subscription, make_user


def send(client, expect=202, **body):
    body = {"recipients": {"external_ids": ["u-1"]}, "title": "Hi", "body": "There"} | body
    headers = body.pop("headers", {})
    response = client.post("messages", {k: v for k, v in body.items() if v is not None}, **headers)
    assert response.status_code == expect, response.content
    return response.json()


@pytest.fixture
def user(application):
    user = make_user(application, "u-1", name="Ada")
    make_subscription(application, token="aa" * 32, user=user)
    return user


def test_a_user_is_reached_on_all_devices(application, server, user):
    make_subscription(application, type="AndroidPush", token="f" * 140, user=user)
    answer = send(server)["data"]
    assert len(answer["messages"]) == 2
    assert {m["external_id"] for m in answer["messages"]} == {"u-1"}
    assert Message.objects.filter(status="pending").count() == 2
    assert set(DispatchBatch.objects.values_list("subscription_type", flat=True)) == {"iOSPush", "AndroidPush"}


def test_who_cannot_be_reached_is_named_and_the_others_are_sent_to(application, server, user):
    make_user(application, "no-device")
    gone = make_subscription(application, token="bb" * 32, subscription_status=-10)
    recipients = {"external_ids": ["u-1", "no-device", "nobody"], "subscription_ids": [str(gone.pk)]}
    answer = send(server, recipients=recipients)["data"]
    assert len(answer["messages"]) == 1
    skipped = {(s["value"], s["reason"]) for s in answer["skipped"]}
    assert skipped == {("no-device", "not_reachable"), ("nobody", "not_found"), (str(gone.pk), "not_reachable")}


def test_a_subscription_named_twice_gets_one_message(server, user):
    subscription = Subscription.objects.get()
    recipients = {"external_ids": ["u-1", "u-1"], "subscription_ids": [str(subscription.pk)]}
    assert len(send(server, recipients=recipients)["data"]["messages"]) == 1


def test_nobody_reachable_is_a_400_that_names_the_field(server, db):
    error = send(server, expect=400)["error"]
    assert (error["code"], error["details"][0]["field"]) == ("VALIDATION_ERROR", "recipients")
    assert Message.objects.count() == 0


def test_another_applications_users_do_not_exist(application, stranger, user):
    subscription = Subscription.objects.get()
    error = send(stranger, expect=400, recipients={"subscription_ids": [str(subscription.pk)]})["error"]
    assert error["details"][0]["field"] == "recipients"


def test_2000_recipients_are_one_request(application, server):
    users = AppUser.objects.bulk_create(AppUser(application=application, external_id=f"u{n}") for n in range(2_000))
    rows = [make_subscription_row(application, n, user) for n, user in enumerate(users)]
    Subscription.objects.bulk_create(rows)
    answer = send(server, recipients={"external_ids": [u.external_id for u in users]})["data"]
    assert len({m["id"] for m in answer["messages"]}) == 2_000
    error = send(server, expect=400, recipients={"external_ids": [f"u{n}" for n in range(2_001)]})["error"]
    assert error["details"][0]["field"] == "recipients.external_ids"


def make_subscription_row(application, n, user):
    from apps.subscriptions.services.subscriptions import token_digest

    token = f"{n:064x}"
    return Subscription(
        application=application,
        type="iOSPush",
        token=token,
        token_digest=token_digest("iOSPush", token),
        user=user,
        subscription_status=1,
    )


def test_a_template_is_rendered_for_each_recipient(application, server, user):
    template = server.post(
        "templates", {"name": "hello", "title_template": "Hi {{ name }}", "body_template": "{{ code }}"}
    )
    template_id = template.json()["data"]["id"]
    other = make_user(application, "u-2", name="Bo")
    make_subscription(application, token="bb" * 32, user=other)
    answer = send(
        server,
        recipients={"external_ids": ["u-1", "u-2"]},
        template_id=template_id,
        variables={"code": "1234"},
        title=None,
        body=None,
    )["data"]
    contents = [server.get(f"messages/{m['id']}").json()["data"]["content"] for m in answer["messages"]]
    assert {c["title"] for c in contents} == {"Hi Ada", "Hi Bo"}
    assert {c["body"] for c in contents} == {"1234"}


def test_a_message_remembers_the_version_of_its_template(server, user):
    template = server.post("templates", {"name": "hello", "title_template": "one"}).json()["data"]
    sent = send(server, template_id=template["id"], title=None, body=None)["data"]["messages"][0]
    server.patch(f"templates/{template['id']}", {"title_template": "two"})
    message = server.get(f"messages/{sent['id']}").json()["data"]
    assert (message["template"], message["content"]["title"]) == ({"id": template["id"], "version": 1}, "one")


def test_literal_text_is_never_rendered(server, user):
    sent = send(server, body="Use {{ braces }} freely {% if %}")["data"]["messages"][0]
    assert server.get(f"messages/{sent['id']}").json()["data"]["content"]["body"] == "Use {{ braces }} freely {% if %}"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"recipients": {}}, "recipients"),
        ({"recipients": None}, "recipients"),
        ({"recipients": {"external_ids": "u-1"}}, "recipients.external_ids"),
        ({"recipients": {"subscription_ids": ["no"]}}, "recipients.subscription_ids[0]"),
        ({"title": None, "body": None}, "body"),
        ({"body": ["x"]}, "body"),
        ({"body": "x" * 5_000}, "body"),
        ({"data": "text"}, "data"),
        ({"data": {"aps": {}}}, "data.aps"),
        ({"options": {"badge": "three"}}, "options.badge"),
        ({"options": {"colour": "red"}}, "options.colour"),
        ({"options": {"collapse_key": "x" * 65}}, "options.collapse_key"),
        ({"priority": "urgent"}, "priority"),
        ({"channel_type": "pigeon"}, "channel_type"),
        ({"ttl_s": -1}, "ttl_s"),
        ({"ttl_s": 10**30}, "ttl_s"),
        ({"ttl_s": "soon"}, "ttl_s"),
        ({"send_at": "2020-01-01T00:00:00Z"}, "send_at"),
        ({"send_at": "2999-01-01T00:00:00Z"}, "send_at"),
        ({"send_at": "tomorrow"}, "send_at"),
        ({"variables": {"a": 1}}, "variables"),
        ({"surprise": 1}, "surprise"),
        ({"template_id": "no"}, "template_id"),
        ({"body": "a\0b"}, "body"),
        ({"data": {"deep\0": 1}}, "data"),
    ],
)
def test_bad_input_names_the_field_and_sends_nothing(server, user, change, field):
    error = send(server, expect=400, **change)["error"]
    assert error["code"] == "VALIDATION_ERROR"
    assert field in [d["field"] for d in error["details"]], error
    assert Message.objects.count() == 0


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, "MALFORMED_JSON"),
        (b"[]", 400, "VALIDATION_ERROR"),
        (b'"text"', 400, "VALIDATION_ERROR"),
        (b"null", 400, "VALIDATION_ERROR"),
        (b'{"title":"\\ud800"}', 400, "MALFORMED_JSON"),
        (b"\xff\xfe", 400, "MALFORMED_JSON"),
        (b"[" * 100 + b"]" * 100, 400, "VALIDATION_ERROR"),
        (b'{"a":' * 5_000 + b"1" + b"}" * 5_000, 400, "MALFORMED_JSON"),
        (b" " * (4 * 1024 * 1024 + 1), 413, "PAYLOAD_TOO_LARGE"),
    ],
)
def test_what_is_no_json_is_refused(server, body, status, code):
    response = server.post("messages", body)
    assert (response.status_code, response.json()["error"]["code"]) == (status, code)


def test_an_unknown_template_is_not_found(server, user):
    error = send(server, expect=404, template_id="01890000-0000-7000-8000-000000000000", title=None, body=None)["error"]
    assert error["code"] == "NOT_FOUND"


@pytest.mark.parametrize(("channel", "field"), [("telegraph", "channel_type"), ("sms", "recipients")])
def test_a_channel_that_is_none_or_that_reaches_nobody_says_so(server, user, channel, field):
    error = send(server, expect=400, channel_type=channel)["error"]
    assert error["details"][0]["field"] == field


def test_the_same_key_and_body_get_the_first_answer_again(server, user):
    first = send(server, headers={"Idempotency-Key": "k-1"})
    second = server.post(
        "messages",
        {"recipients": {"external_ids": ["u-1"]}, "title": "Hi", "body": "There"},
        **{"Idempotency-Key": "k-1"},
    )
    assert second.status_code == 202
    assert second.headers["Idempotency-Replayed"] == "true"
    assert second.json()["data"] == first["data"]
    assert Message.objects.count() == 1


def test_the_same_key_with_another_body_is_a_conflict(server, user):
    send(server, headers={"Idempotency-Key": "k-1"})
    error = send(server, expect=409, body="Else", headers={"Idempotency-Key": "k-1"})["error"]
    assert error["code"] == "IDEMPOTENCY_KEY_REUSED"


def test_a_refused_request_may_be_mended_under_the_same_key(server, user):
    send(server, expect=400, priority="urgent", headers={"Idempotency-Key": "k-1"})
    send(server, headers={"Idempotency-Key": "k-1"})


def test_sent_later_waits_until_its_time(server, user):
    at = timezone.now() + timedelta(hours=1)
    send(server, send_at=at.isoformat())
    batch = DispatchBatch.objects.get()
    assert (batch.due_at, batch.queued_at) == (at, None)
    assert not dispatch.run_batch(batch.pk)


@pytest.mark.django_db(transaction=True)
def test_what_waits_for_a_person_does_not_go_to_the_next_one_on_the_device(application, server, user, apns):
    send(server, send_at=(timezone.now() + timedelta(hours=1)).isoformat())
    subscription = Subscription.objects.get()
    subscription.user = make_user(application, "u-2")
    subscription.save()
    DispatchBatch.objects.update(due_at=timezone.now())
    dispatch.run_batch(DispatchBatch.objects.get().pk)
    assert [(m.status, m.error_reason) for m in Message.objects.all()] == [("failed", "logged_out")]
    assert apns.entries() == []


def test_a_scheduled_message_can_be_canceled_once(server, user):
    sent = send(server, send_at=(timezone.now() + timedelta(hours=1)).isoformat())["data"]["messages"][0]
    answer = server.post(f"messages/{sent['id']}/cancel").json()["data"]
    assert (answer["status"], answer["error_reason"]) == ("failed", "canceled")
    error = server.post(f"messages/{sent['id']}/cancel").json()["error"]
    assert error["code"] == "MESSAGE_LEFT"


@pytest.mark.parametrize("state", ["successful", "received", "converted", "failed"])
def test_what_has_left_cannot_be_canceled(application, server, state):
    (message,) = make_messages(application, [state])
    response = server.post(f"messages/{message.pk}/cancel")
    assert (response.status_code, response.json()["error"]["code"]) == (409, "MESSAGE_LEFT")


def test_what_is_being_sent_cannot_be_canceled(application, server):
    (message,) = make_messages(application, ["pending"])
    DispatchBatch.objects.update(state="claimed")
    assert server.post(f"messages/{message.pk}/cancel").json()["error"]["code"] == "MESSAGE_BEING_SENT"


def test_messages_come_in_pages_newest_first(application, server):
    made = make_messages(application, ["pending"] * 5)
    first = server.get("messages?limit=3").json()
    second = server.get(f"messages?limit=3&cursor={first['meta']['next_cursor']}").json()
    ids = [m["id"] for m in first["data"] + second["data"]]
    assert ids == sorted((str(m.pk) for m in made), reverse=True)
    assert second["meta"]["next_cursor"] is None


@pytest.mark.parametrize("query", ["limit=0", "limit=201", "limit=x", "cursor=nonsense!", "status=odd", "colour=red"])
def test_a_bad_query_names_the_field(server, query):
    response = server.get(f"messages?{query}")
    assert response.status_code == 400
    assert response.json()["error"]["details"][0]["field"] == query.split("=")[0]


def test_messages_can_be_found_by_user_state_and_subscription(application, server, user):
    sent = send(server)["data"]["messages"][0]
    make_messages(application, ["failed"])
    for query in ("external_id=u-1", "status=pending", f"subscription_id={sent['subscription_id']}"):
        assert [m["id"] for m in server.get(f"messages?{query}").json()["data"]] == [sent["id"]]
    assert server.get("messages?external_id=nobody").json()["data"] == []


def test_the_timeline_is_in_order(application, server):
    (message,) = make_messages(application, ["successful"])
    server.post("receipts", {"events": [{"message_id": str(message.pk), "type": "converted"}]})
    events = server.get(f"messages/{message.pk}/events").json()["data"]
    assert [e["event_type"] for e in events] == ["received", "converted"]


def test_a_stranger_sees_nothing(application, stranger):
    (message,) = make_messages(application, ["pending"])
    for path in (f"messages/{message.pk}", f"messages/{message.pk}/events"):
        assert stranger.get(path).status_code == 404
    assert stranger.post(f"messages/{message.pk}/cancel").status_code == 404
    assert stranger.get("messages").json()["data"] == []


def test_a_publishable_key_cannot_send(sdk, user):
    assert send(sdk, expect=403)["error"]["code"] == "FORBIDDEN"


def test_a_key_without_the_scope_cannot_send(application, user):
    key = key_create(application=application, name="reader", kind="secret", scopes=["messages:read"])
    assert send(ApiClient(key.plaintext), expect=403)["error"]["code"] == "FORBIDDEN"


@pytest.fixture
def no_broker(monkeypatch):
    """Celery with a broker that does not answer, and connections of its own for it."""
    monkeypatch.setattr(celery_app.conf, "broker_url", "redis://127.0.0.1:1/0")
    celery_app._after_fork()  # forget the open connections
    yield
    celery_app._after_fork()


def test_without_redis_a_message_is_accepted_and_waits(server, user, no_broker, django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks(execute=True):
        send(server)
    assert Message.objects.filter(status="pending").count() == 1
