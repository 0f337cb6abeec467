"""The sending half of the engine alone, as a process: `python -m bench.client apns|fcm raw|sender …`.

`raw` is `Http2Client` with a request that was built before; `sender` decrypts an address, builds, sends and parses as
a worker does. Prints one JSON line: messages, accepted, when it began and ended (the system's monotonic clock), CPU
seconds.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from apps.messaging.adapters.base import Content, Delivery, Endpoint, Outcome
from apps.messaging.adapters.http2 import Http2Client, Request
from apps.messaging.adapters.registry import adapter_named
from automata_signal.encryption import keyring
from automata_signal.ids import new_range

ADDRESSES = {"apns": "a5" * 32, "fcm": "bench:APA91b" + "x" * 130}
CONTENT = Content("The sale begins", "Twenty per cent off everything until midnight.", {"sale": "42"})
SLICE = 1_000
WARM_UP = 2_000


def raw(options: argparse.Namespace, endpoint: Endpoint) -> Iterator[bool]:
    """Whether each was accepted."""
    client = Http2Client(
        ca_file=endpoint.ca_file,
        connections=endpoint.connections,
        streams=endpoint.streams,
        timeout_s=endpoint.timeout_s,
    )
    path = (
        b"/3/device/" + ADDRESSES["apns"].encode()
        if options.provider == "apns"
        else b"/v1/projects/bench/messages:send"
    )
    headers = [b"authorization: bearer " + b"x" * 180, b"apns-topic: com.example.bench", b"apns-priority: 5"]
    body = b'{"aps":{"alert":{"title":"The sale begins","body":"' + b"x" * 160 + b'"}}}'
    try:
        requests = (Request(None, endpoint.url, path, headers, body) for _ in range(options.messages))
        for answer in client.exchange(requests):
            yield answer.status == 200
    finally:
        client.close()


def sender(options: argparse.Namespace, endpoint: Endpoint) -> Iterator[bool]:
    """Whether each was accepted; in batches, as a worker sends."""
    sending = adapter_named(options.provider).open(json.loads(options.secret.read_text()), endpoint)
    stored = keyring().encrypt(ADDRESSES[options.provider].encode())
    try:
        for start in range(0, options.messages, SLICE):
            ids = new_range()
            count = min(SLICE, options.messages - start)
            for result in sending.send(_deliveries(islice(ids.texts(), count), stored)):
                yield result.outcome is Outcome.ACCEPTED
    finally:
        sending.close()


def _deliveries(ids: Iterable[str], stored: bytes) -> Iterator[Delivery]:
    decrypt = keyring().decrypt
    for message_id in ids:
        yield Delivery(message_id, decrypt(stored).decode(), CONTENT)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("provider", choices=["apns", "fcm"])
    parser.add_argument("mode", choices=["raw", "sender"])
    parser.add_argument("--url", required=True)
    parser.add_argument("--token-url", default="")
    parser.add_argument("--ca-file", required=True)
    parser.add_argument("--secret", type=Path)
    parser.add_argument("--messages", type=int, default=100_000)
    options = parser.parse_args()
    endpoint = Endpoint(options.url, sandbox_url=options.url, token_url=options.token_url, ca_file=options.ca_file)
    accepted, began, cpu = 0, 0.0, 0.0
    for position, was_accepted in enumerate((raw if options.mode == "raw" else sender)(options, endpoint)):
        if position == min(WARM_UP, options.messages // 2):
            accepted, began, cpu = 0, time.monotonic(), time.process_time()
        accepted += was_accepted
    ended, used = time.monotonic(), time.process_time() - cpu
    counted = options.messages - min(WARM_UP, options.messages // 2)
    print(json.dumps({"messages": counted, "accepted": accepted, "began": began, "ended": ended, "cpu_s": used}))


if __name__ == "__main__":
    main()
