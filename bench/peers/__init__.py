"""Libraries that others send with, against the engine: the same tokens to the same provider, in the same run.

A peer only sends, from one process, in the way that its documentation gives for many recipients, and with as many in
flight as made it fastest. Ours is the plain campaign of `pipeline`, launch until recorded, with everything that takes
(two workers, PostgreSQL, Redis) on the same cores; beside it stands our own sending alone, from one process as well.
Peers get fewer messages than the campaign, as their rates do not change with more.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from apps.subscriptions.models import SubscriptionType
from apps.tenants.models import Application, ChannelCredential
from automata_signal.encryption import keyring
from bench import machine
from bench.accounting import Meter
from bench.ceiling import by_own_client
from bench.fleet import Behaviour
from bench.harness import PLAIN, Bench
from bench.peers import install
from bench.pipeline import add_runs, told
from bench.report import Goal
from tools.supervisor import ROOT

PART = "peers"
FOLDER = Path(__file__).parent
TIMES_PYTHON = Goal(8)
TIMES_NODE = Goal(1)
"""Ahead of its raw sending."""
OURS = "ours: campaign, launch until recorded"
PEER_S = 180.0


class Peer(NamedTuple):
    name: str
    provider: str
    script: str
    """With its own arguments, in this folder."""
    messages: int
    warm_up: int = 500

    @property
    def ending(self) -> str:
        """Of its script, which tells the language."""
        return Path(self.script.split()[0]).suffix


PEERS = (
    Peer("aioapns", "apns", "aioapns_send.py", 10_000),
    Peer("django-push-notifications, APNs", "apns", "django_push_send.py apns", 6_000),
    Peer("django-push-notifications, FCM", "fcm", "django_push_send.py fcm", 2_500),
    Peer("firebase-admin, send_each", "fcm", "firebase_send.py", 2_500),
    Peer("firebase-admin, send_each_async", "fcm", "firebase_send.py --async", 1_500),
    Peer("node-apn", "apns", "node_apn.js", 50_000, warm_up=5_000),
)


@dataclass(frozen=True)
class Echoing(Behaviour):
    """With the request's `apns-id` in the answer, as the real APNs: aioapns knows its answers by nothing else."""

    def arguments(self) -> tuple[str, ...]:
        return (*super().arguments(), "--echo-ids")


class Sent(NamedTuple):
    """What a peer did."""

    messages: int
    accepted: int
    """With those of the warm-up."""
    seconds: float
    cpu_us: float
    """Of its process, for a message."""

    @property
    def rate(self) -> float:
        return self.messages / self.seconds


def read(output: str, messages: int) -> Sent:
    """The line that a script prints last. Raises `Unavailable` for anything else."""
    try:
        told = json.loads(output.strip().splitlines()[-1])
        return Sent(messages, int(told["accepted"]), float(told["seconds"]), float(told["cpu_us"]))
    except (IndexError, ValueError, KeyError, TypeError) as error:
        raise install.Unavailable(f"it printed no result: {output.strip()[-200:]!r}") from error


def check(sent: Sent, expected: int, answered: int) -> None:
    """Raise `Unavailable` unless the provider has accepted what the peer says, and that is everything."""
    if not sent.accepted == answered == expected:
        raise install.Unavailable(f"of {expected} messages it counts {sent.accepted}, the provider {answered}")


def run(bench: Bench) -> None:
    application = bench.application(bench.options.recipients)
    with _providers(bench, Behaviour()):  # which tell where the token endpoint is
        files = _write_files(bench, application)
    rates: dict[str, float] = {}
    wanted = [peer for peer in PEERS if bench.wants(peer.name)]
    for ending in dict.fromkeys(peer.ending for peer in wanted):
        same = [peer for peer in wanted if peer.ending == ending]
        try:
            interpreter = _interpreter(ending)
        except install.Unavailable as reason:
            bench.say(f"not measured, {', '.join(peer.name for peer in same)}: {reason}")
            continue
        for peer in same:
            try:
                rates[peer.script] = _measure(bench, peer, interpreter, files)
            except install.Unavailable as reason:
                bench.say(f"not measured, {peer.name}: {reason}")
    ours = _campaign(bench, application)
    _sending_alone(bench, files)
    compare(bench, ours, rates)


def compare(bench: Bench, ours: float, rates: dict[str, float]) -> None:
    """Report our rate as a multiple of the fastest Python script's and of node-apn's, where these were measured."""
    for metric, ending, goal in (("x Python", ".py", TIMES_PYTHON), ("x node-apn", ".js", TIMES_NODE)):
        theirs = max((rate for script, rate in rates.items() if script.split()[0].endswith(ending)), default=None)
        if theirs:
            bench.report.add(PART, OURS, metric, ours / theirs, goal=goal)


# --- Peers ---------------------------------------------------------------------------------------------------------


class Interpreter(NamedTuple):
    command: list[str]
    env: dict[str, str]


class Files(NamedTuple):
    """What a script reads, by provider."""

    addresses: dict[str, Path]
    secrets: dict[str, Path]


def _write_files(bench: Bench, application: Application) -> Files:
    """The addresses of the audience in clear, and the credentials; in the run's own folder, which ends with it."""
    files = Files({}, {})
    decrypt = keyring().decrypt
    for provider, kind in (("apns", SubscriptionType.IOS_PUSH), ("fcm", SubscriptionType.ANDROID_PUSH)):
        rows = bench.sql(
            "SELECT token FROM subscriptions_subscription WHERE application_id = %s AND type = %s ORDER BY id",
            [application.pk, kind.value],
        )
        secret = ChannelCredential.objects.get(application=application, provider=provider).secret
        if provider == "fcm":  # the library asks for its tokens where the account says
            account = {**secret["service_account"], "token_uri": bench.providers.environment()["FCM_TOKEN_URL"]}
            secret = {"service_account": account}
        files.addresses[provider] = _private(
            bench, f"{provider}.txt", "\n".join(decrypt(row[0]).decode() for row in rows)
        )
        files.secrets[provider] = _private(bench, f"{provider}.json", json.dumps(secret))
    return files


def _private(bench: Bench, name: str, content: str) -> Path:
    path = bench.folder / f"peers-{name}"
    path.touch(mode=0o600)
    path.write_text(content)
    return path


@contextmanager
def _providers(bench: Bench, behaviour: Behaviour) -> Iterator[None]:
    bench.providers.start(behaviour)
    try:
        yield
    finally:
        bench.providers.stop()


def _measure(bench: Bench, peer: Peer, interpreter: Interpreter, files: Files) -> float:
    """Messages a second. Raises `Unavailable`."""
    script, *arguments = peer.script.split()
    messages = min(peer.messages, len(files.addresses[peer.provider].read_text().split()))
    warm_up = min(peer.warm_up, messages)
    # Only Python peers know answers by their ids; the provider need not read headers for the other one.
    with _providers(bench, Echoing() if peer.ending == ".py" else Behaviour()):
        command = [
            *(*interpreter.command, str(FOLDER / script), *arguments, "--url", bench.providers.url(peer.provider)),
            *("--ca-file", str(bench.providers.ca_file), "--secret", str(files.secrets[peer.provider])),
            *("--addresses", str(files.addresses[peer.provider]), "--message", json.dumps(PLAIN)),
            *("--count", str(messages), "--warm-up", str(warm_up)),
        ]
        machine.wait_for_rest(bench.options.wait)
        load = machine.load()
        with Meter({"provider": [bench.providers.children[peer.provider].process.pid]}) as meter:
            sent = read(_output(command, interpreter.env), messages)
        check(sent, messages + warm_up, bench.providers.tally(peer.provider).accepted)
    provider_us = meter.usage.cpu_s["provider"] / sent.accepted * 1e6
    _add(bench, peer.name, sent.rate, messages, 1, (("client", sent.cpu_us), ("provider", provider_us)), load)
    return sent.rate


def _interpreter(ending: str) -> Interpreter:
    """Raises `Unavailable`."""
    if ending == ".js":
        return Interpreter(["node"], install.own_environment({"NODE_PATH": str(install.node_modules())}))
    # firebase-admin warns for each message that addresses shall be called fid: not what is measured.
    return Interpreter([str(install.python()), "-W", "ignore"], install.own_environment())


def _output(command: list[str], env: dict[str, str]) -> str:
    try:
        result = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=PEER_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise install.Unavailable(f"it did not end within {PEER_S:.0f} s") from error
    if result.returncode:
        lines = result.stderr.strip().splitlines() or [f"exit code {result.returncode}"]
        raise install.Unavailable(lines[-1][:200])
    return result.stdout


# --- Ours ----------------------------------------------------------------------------------------------------------


def _campaign(bench: Bench, application: Application) -> float:
    """Messages a second of the plain campaign, the median of `--runs`."""
    runs = []
    with bench.fleet() as fleet:
        bench.warm_up(fleet)
        for _ in range(bench.options.runs):
            runs.append(bench.send(fleet, [application]))
            bench.say(f"{OURS}: {told(runs[-1])}")
    middle = add_runs(bench, f"{PART}: pipeline", "plain", runs)
    costs = (("client", middle.cpu_us("workers")), ("provider", middle.cpu_us("providers")))
    _add(bench, OURS, middle.rate, middle.recipients, bench.options.workers, costs, middle.load)
    return middle.rate


def _sending_alone(bench: Bench, files: Files) -> None:
    """Our own adapters: decrypt, build, send and parse, without claiming and recording."""
    with _providers(bench, Behaviour()):
        for provider, secret in files.secrets.items():
            machine.wait_for_rest(bench.options.wait)
            extra = ("sender", "--secret", str(secret))
            messages = bench.options.recipients
            sent = by_own_client(bench.providers, provider, processes=1, messages=messages, extra=extra)
            costs = (("client", sent.client_us), ("provider", sent.provider_us))
            _add(bench, f"ours: sending alone, {provider}", sent.rate, messages, 1, costs, sent.load)


def _add(
    bench: Bench,
    case: str,
    rate: float,
    messages: int,
    processes: int,
    costs: Iterable[tuple[str, float]],
    load: float,
) -> None:
    bench.report.add(PART, case, "rate", rate, "msg/s")
    bench.report.add(PART, case, "messages", messages)
    bench.report.add(PART, case, "processes", processes)
    for name, cost_us in costs:
        bench.report.add(PART, case, name, cost_us, "µs/msg")
    bench.report.add(PART, case, "load", load, "at start")
    bench.say(f"{case}: {rate:,.0f} messages/s")
