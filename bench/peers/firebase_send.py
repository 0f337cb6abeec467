"""firebase-admin: its batch calls, 500 messages each, which is their limit."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence

import firebase_admin
from firebase_admin import credentials, messaging
from measure import Task, measure

AT_ONCE = 500


def start_app(task: Task) -> None:
    """Firebase's default app, which sends to the local provider.

    The library has no option for FCM's address, so it is patched, and the pool of 100 connections that the library
    keeps for the real address is given to this one. Its HTTP clients take a CA from the environment.
    """
    address = f"https://{task.host}:{task.port}"
    messaging._MessagingService.FCM_URL = f"{address}/v1/projects/{{0}}/messages:send"
    os.environ["REQUESTS_CA_BUNDLE"] = os.environ["SSL_CERT_FILE"] = task.ca_file
    app = firebase_admin.initialize_app(credentials.Certificate(task.secret["service_account"]))
    session = messaging._get_messaging_service(app)._client.session
    session.mount(address, session.get_adapter("https://fcm.googleapis.com"))


def main() -> None:
    is_async = "--async" in sys.argv
    task = Task.read([argument for argument in sys.argv[1:] if argument != "--async"])
    start_app(task)
    notification = messaging.Notification(title=task.message["title"], body=task.message["body"])

    def batches(addresses: Sequence[str]) -> list[list[messaging.Message]]:
        messages = [
            messaging.Message(token=address, notification=notification, data=task.message["data"])
            for address in addresses
        ]
        return [messages[start : start + AT_ONCE] for start in range(0, len(messages), AT_ONCE)]

    def send(addresses: Sequence[str]) -> int:
        return sum(messaging.send_each(batch).success_count for batch in batches(addresses))

    with asyncio.Runner() as runner:

        async def send_all(addresses: Sequence[str]) -> int:
            accepted = 0
            for batch in batches(addresses):
                accepted += (await messaging.send_each_async(batch)).success_count
            return accepted

        measure(task, (lambda addresses: runner.run(send_all(addresses))) if is_async else send)


if __name__ == "__main__":
    main()
