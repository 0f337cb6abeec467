"""django-push-notifications: `send_message` of a set of devices, its bulk call; the devices are in SQLite in memory."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import django
from django.conf import settings
from measure import Task, measure

AT_ONCE = 500
"""Devices of one bulk call. Every notification gives up a second after the call, so more at once are lost, not faster;
FCM's call refuses more than 500."""


def main() -> None:
    provider = sys.argv[1]
    task = Task.read(sys.argv[2:])
    with tempfile.NamedTemporaryFile("w", suffix=".p8") as key:
        os.environ["SSL_CERT_FILE"] = task.ca_file  # there is no option for a CA either: OpenSSL takes it from here
        configure(task, key.name)
        if provider == "apns":
            key.write(task.secret["private_key"])
            key.flush()
        measure(task, (apns if provider == "apns" else fcm)(task))


def configure(task: Task, key_file: str) -> None:
    settings.configure(
        INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "push_notifications"],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
        DEFAULT_AUTO_FIELD="django.db.models.AutoField",
        PUSH_NOTIFICATIONS_SETTINGS={
            "APNS_AUTH_KEY_PATH": key_file,
            "APNS_AUTH_KEY_ID": task.secret.get("key_id"),
            "APNS_TEAM_ID": task.secret.get("team_id"),
            "APNS_TOPIC": task.secret.get("bundle_id"),
            "FCM_MAX_RECIPIENTS": AT_ONCE,
        },
    )
    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0)


def apns(task: Task) -> Callable[[Sequence[str]], int]:
    from aioapns.connection import APNsProductionClientProtocol
    from push_notifications.apns_async import Alert
    from push_notifications.models import APNSDevice

    APNsProductionClientProtocol.APNS_SERVER = task.host  # there is no option for the address
    APNsProductionClientProtocol.APNS_PORT = task.port
    alert = Alert(title=task.message["title"], body=task.message["body"])
    APNSDevice.objects.bulk_create(APNSDevice(registration_id=address) for address in task.addresses)

    def send(addresses: Sequence[str]) -> int:
        accepted = 0
        for devices in sets(APNSDevice.objects.all(), addresses):
            (results,) = devices.send_message(alert, extra=task.message["data"])
            accepted += sum(result == "Success" for result in results.values())
        return accepted

    return send


def fcm(task: Task) -> Callable[[Sequence[str]], int]:
    from firebase_admin import messaging
    from firebase_send import start_app
    from push_notifications.models import GCMDevice

    start_app(task)
    notification = messaging.Notification(title=task.message["title"], body=task.message["body"])
    message = messaging.Message(notification=notification, data=task.message["data"])
    GCMDevice.objects.bulk_create(GCMDevice(registration_id=address) for address in task.addresses)

    def send(addresses: Sequence[str]) -> int:
        return sum(devices.send_message(message).success_count for devices in sets(GCMDevice.objects.all(), addresses))

    return send


def sets(devices: Any, addresses: Sequence[str]) -> Iterable[Any]:
    """The devices of these addresses, so many at once; by key, as they were made in this order."""
    for start in range(0, len(addresses), AT_ONCE):
        yield devices.filter(pk__gt=start, pk__lte=min(start + AT_ONCE, len(addresses)))


if __name__ == "__main__":
    main()
