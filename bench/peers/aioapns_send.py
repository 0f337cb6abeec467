"""aioapns: one client with its pool of connections, so many notifications in flight."""

from __future__ import annotations

import asyncio
import ssl
import tempfile
from collections.abc import Iterator, Sequence

from aioapns import APNs, NotificationRequest, PushType
from aioapns.connection import APNsProductionClientProtocol
from measure import Task, measure

IN_FLIGHT = 50
"""With 20 or 50 it is fastest against a provider that answers at once; 1,000 cost it a quarter of its rate."""


def main() -> None:
    task = Task.read()
    # The library has no option for the address; the CA goes in by its option `ssl_context`.
    APNsProductionClientProtocol.APNS_SERVER = task.host
    APNsProductionClientProtocol.APNS_PORT = task.port
    message = {"aps": {"alert": {"title": task.message["title"], "body": task.message["body"]}}, **task.message["data"]}

    async def work(client: APNs, addresses: Iterator[str]) -> int:
        accepted = 0
        for address in addresses:
            request = NotificationRequest(address, message, push_type=PushType.ALERT)
            accepted += (await client.send_notification(request)).is_successful
        return accepted

    with asyncio.Runner() as runner, tempfile.NamedTemporaryFile("w", suffix=".p8") as key:
        key.write(task.secret["private_key"])
        key.flush()

        async def connect() -> APNs:
            return APNs(
                key=key.name,
                key_id=task.secret["key_id"],
                team_id=task.secret["team_id"],
                topic=task.secret["bundle_id"],
                ssl_context=ssl.create_default_context(cafile=task.ca_file),
            )

        client = runner.run(connect())

        async def send_all(addresses: Sequence[str]) -> int:
            waiting = iter(addresses)
            return sum(await asyncio.gather(*(work(client, waiting) for _ in range(IN_FLIGHT))))

        measure(task, lambda addresses: runner.run(send_all(addresses)))


if __name__ == "__main__":
    main()
