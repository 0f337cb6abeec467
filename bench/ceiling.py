"""What a provider of the benchmark can take: by h2load where it is installed, and by the engine's own client."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from bench import machine
from bench.accounting import Meter
from bench.fleet import Providers
from tools.supervisor import ROOT, StackError

if TYPE_CHECKING:
    from bench.harness import Bench

MESSAGES = 200_000
H2LOAD_FINISHED = re.compile(r"finished in .*?, ([\d.]+) req/s")
H2LOAD_OK = re.compile(r"status codes: (\d+) 2xx")


class Ceiling(NamedTuple):
    tool: str
    rate: float
    provider_us: float
    """CPU µs of the provider for a message."""
    client_us: float
    load: float


def by_h2load(providers: Providers, name: str, *, messages: int = MESSAGES) -> Ceiling | None:
    """None when h2load is not installed (Debian: nghttp2-client)."""
    command = shutil.which("h2load")
    if command is None:
        return None
    body = providers.ca_file.with_name("body.json")
    body.write_text('{"aps":{"alert":{"title":"The sale begins","body":"' + "x" * 160 + '"}}}')
    path = "/3/device/" + "a5" * 32 if name == "apns" else "/v1/projects/bench/messages:send"
    arguments = ("-n", str(messages), "-c", "4", "-m", "100", "-t", "1", "-d", str(body))
    load = machine.load()
    with _meter(providers, name) as meter:
        result = subprocess.run(
            [command, *arguments, f"{providers.url(name)}{path}"], capture_output=True, text=True, check=False
        )
    rate, accepted = H2LOAD_FINISHED.search(result.stdout), H2LOAD_OK.search(result.stdout)
    if rate is None or accepted is None or int(accepted[1]) != messages:
        raise StackError(f"h2load and the {name} provider do not get on: {result.stdout[-300:]}{result.stderr[-300:]}")
    return Ceiling("h2load", float(rate[1]), meter.usage.cpu_s["provider"] / messages * 1e6, 0.0, load)


def by_own_client(
    providers: Providers, name: str, *, processes: int = 2, messages: int = MESSAGES, extra: Sequence[str] = ("raw",)
) -> Ceiling:
    """By so many processes of `bench.client`; `extra` is its mode with what that needs."""
    environment = providers.environment()
    command = [
        *(sys.executable, "-m", "bench.client", name, *extra),
        *("--url", providers.url(name), "--ca-file", str(providers.ca_file)),
        *("--token-url", environment["FCM_TOKEN_URL"], "--messages", str(messages // processes)),
    ]
    load = machine.load()
    with _meter(providers, name) as meter:
        clients = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(processes)]
        try:
            lines = [client.communicate()[0] for client in clients]
        finally:
            for client in clients:
                client.kill()
                client.wait()
    if any(client.returncode for client in clients):
        raise StackError("bench.client has failed (see above)")
    told = [json.loads(line) for line in lines]
    counted = sum(row["messages"] for row in told)
    if sum(row["accepted"] for row in told) != counted:
        raise StackError(f"the {name} provider did not accept everything: {told}")
    seconds = max(row["ended"] for row in told) - min(row["began"] for row in told)
    return Ceiling(
        f"own client x {processes}",
        counted / seconds,
        meter.usage.cpu_s["provider"] / messages * 1e6,
        sum(row["cpu_s"] for row in told) / counted * 1e6,
        load,
    )


def add_ceilings(bench: Bench, part: str, name: str, *, messages: int) -> None:
    """Measure a provider of the running fleet in both ways, and report it as cases of `part`."""
    for ceiling in (
        by_h2load(bench.providers, name, messages=messages),
        by_own_client(bench.providers, name, messages=messages),
    ):
        if ceiling is None:
            continue
        case = f"ceiling of {name}, {ceiling.tool}"
        bench.report.add(part, case, "rate", ceiling.rate, "msg/s")
        bench.report.add(part, case, "ours", ceiling.client_us, "µs/msg")
        bench.report.add(part, case, "provider", ceiling.provider_us, "µs/msg")
        bench.report.add(part, case, "load", ceiling.load, "at start")
        bench.say(f"{case}: {ceiling.rate:,.0f} messages/s ({ceiling.provider_us:.1f} µs of its CPU each)")


def _meter(providers: Providers, name: str) -> Meter:
    return Meter({"provider": [providers.children[name].process.pid]})
