"""Erasing a person: nothing of what was written to them stays, also on devices that they left."""

from apps.messaging.models import Dispatch, Message
from tests.factories import make_subscription, make_user


def send(server, **body):
    recipients = {"external_ids": ["u-1"]}
    answer = server.post("messages", {"recipients": recipients, "title": "Dear Ada", "body": "Your results"} | body)
    assert answer.status_code == 202, answer.content


def test_what_was_written_to_one_person_is_gone(application, server):
    user = make_user(application, "u-1", name="Ada")
    make_subscription(application, token="aa" * 32, user=user)
    send(server)
    assert server.post(f"users/{user.pk}/erase").status_code == 204
    message, dispatch = Message.objects.get(), Dispatch.objects.get()
    assert (message.user_id, message.title, message.body) == (None, None, None)
    assert (dispatch.title, dispatch.body) == ("", "")


def test_what_others_received_as_well_stays(application, server):
    user = make_user(application, "u-1")
    make_subscription(application, token="aa" * 32, user=user)
    make_subscription(application, token="bb" * 32, user=make_user(application, "u-2"))
    send(server, recipients={"external_ids": ["u-1", "u-2"]})
    server.post(f"users/{user.pk}/erase")
    assert Dispatch.objects.get().title == "Dear Ada"
    assert Message.objects.filter(user=None).count() == 1


def test_a_device_that_the_person_signed_out_of_is_not_forgotten(application, server, sdk):
    registered = sdk.post("subscriptions", {"type": "iOSPush", "token": "ab" * 32, "enabled": True}).json()["data"]
    handle = {"X-Subscription-Handle": registered["handle"]}
    assert sdk.post(f"subscriptions/{registered['id']}/login", {"external_id": "u-1"}, **handle).status_code == 200
    send(server)
    assert sdk.post(f"subscriptions/{registered['id']}/logout", **handle).status_code in (200, 204)
    user_id = server.get("users/by-external-id?external_id=u-1").json()["data"]["id"]
    exported = server.get(f"users/{user_id}/export").json()["data"]
    assert "Dear Ada" in str(exported)
    assert server.post(f"users/{user_id}/erase").status_code == 204
    assert Message.objects.get().user_id is None
    assert Dispatch.objects.get().title == ""
