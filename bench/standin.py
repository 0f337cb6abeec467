"""The peer of a channel that is not push: a stand-in of `apps.sandbox` as a process of its own, and our account at it.

It takes the place of `fleet.Providers`. The relay is the one for benchmarks (`--fast`); the gateways' stand-ins are the
strict ones, which are faster than what they are measured with (apps/sandbox/README.md). In-app messages have no peer:
the inbox is a table of our own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from apps.sandbox.authority import ensure_authority
from apps.sandbox.client import ControlClient
from apps.sandbox.gateway_credentials import NhnApp, SolapiAccount, TwilioAccount
from bench.fleet import READY_S, Behaviour
from tools.processes import provider
from tools.services import free_ports
from tools.stack import accepts
from tools.supervisor import Child, StackError, Supervisor

KOREAN_SENDER, TWILIO_SENDER = "0212345678", "+15005550006"
PROFILE, TEMPLATE = "KA01PF240101000000000000000000bench", "bench_shipped"
TEMPLATE_TEXT = "#{name}, your order 42 has left our warehouse and comes to #{city} tomorrow."
JOURNAL_SIZE = 10_000
"""Entries that are kept; the counts go on. Memory, and the time that it takes to collect, is the peer's own affair."""


class StandIn:
    """One stand-in with one account. `provider` is the adapter's name in credentials."""

    command = ""
    """Of `python -m apps.sandbox`."""
    url_setting = ""
    arguments: tuple[str, ...] = ()

    def __init__(self, supervisor: Supervisor, folder: Path, provider: str) -> None:
        self._supervisor, self._ca_dir, self.provider = supervisor, folder / "ca", provider
        self.metrics_dir = folder / "metrics"
        self.ca_file = ensure_authority(self._ca_dir).ca_file
        self.port, self._control_port = free_ports(2)
        self.children: dict[str, Child] = {}

    def secret(self) -> dict[str, Any]:
        """Of our credential."""
        raise NotImplementedError

    def register(self, control: ControlClient) -> None:
        """Tell it of our account."""
        raise NotImplementedError

    def start(self, behaviour: Behaviour) -> None:
        if behaviour.refuse_share:
            raise StackError("stand-ins refuse by number or address, not by share")
        ports = (f"--port={self.port}", f"--control-port={self._control_port}", f"--journal-size={JOURNAL_SIZE}")
        waits = (f"--latency-ms={behaviour.latency_ms}", f"--jitter-ms={behaviour.jitter_ms}")
        spec = provider(self.command, *ports, *waits, *self.arguments, ca_dir=self._ca_dir)
        spec = replace(spec, name=f"bench-{self.command}", env={**spec.env, "AUTOMATA_SANDBOX": "1"})
        self.children[self.command] = self._supervisor.start(spec)
        for port in (self.port, self._control_port):
            self._supervisor.wait_until(lambda port=port: accepts(port), timeout_s=READY_S, what="The stand-in")  # type: ignore[misc]
        self.control = ControlClient(f"http://127.0.0.1:{self._control_port}")
        self.register(self.control)

    def stop(self) -> None:
        for child in self.children.values():
            self._supervisor.stop_child(child)
        self.children = {}

    def answered(self) -> int:
        """Messages that it has taken so far."""
        return int(self.control.stats()["accepted"])

    def environment(self) -> dict[str, str]:
        """What workers find it by."""
        found = {"PROVIDER_CA_FILE": str(self.ca_file), "OUTGOING_ALLOW_PRIVATE": "1"}
        return {**found, self.url_setting: f"https://localhost:{self.port}"} if self.url_setting else found


class Relay(StandIn):
    """SMTP with STARTTLS."""

    command = "smtp"
    arguments = ("--fast",)
    _account = {"username": "bench", "password": "bench-password"}

    def secret(self) -> dict[str, Any]:
        where = {"host": "localhost", "port": self.port, "security": "starttls"}
        return {**where, **self._account, "from_address": "news@shop.example", "from_name": "The shop"}

    def register(self, control: ControlClient) -> None:
        control.register_keys({**self._account, "domains": ["shop.example"]})


class Solapi(StandIn):
    command, url_setting = "solapi", "SOLAPI_URL"
    _account = SolapiAccount()

    def secret(self) -> dict[str, Any]:
        account = self._account
        keys = {
            "api_key": account.api_key,
            "api_secret": account.api_secret,
            "webhook_secret": account.webhook_secret,
        }
        return {**keys, "from": KOREAN_SENDER} if self.provider == "solapi" else keys

    def register(self, control: ControlClient) -> None:
        control.register_keys(self._account.registration())
        control.register_senders(KOREAN_SENDER)
        control.register_profiles(PROFILE)
        control.register_templates(alimtalk_template())
        control.settings(reports="off")


class Twilio(StandIn):
    command, url_setting = "twilio", "TWILIO_URL"
    _account = TwilioAccount()

    def secret(self) -> dict[str, Any]:
        account = self._account
        return {"account_sid": account.account_sid, "auth_token": account.auth_token, "from": TWILIO_SENDER}

    def register(self, control: ControlClient) -> None:
        control.register_keys(self._account.registration())
        control.register_senders(TWILIO_SENDER)
        control.settings(reports="off")


class Nhn(StandIn):
    command, url_setting = "nhn", "NHN_SMS_URL"
    _app = NhnApp()

    def secret(self) -> dict[str, Any]:
        app = self._app
        keys = {
            "app_key": app.app_key,
            "secret_key": app.secret_key,
            "webhook_signature": app.webhook_signature,
        }
        return {**keys, "from": KOREAN_SENDER} if self.provider == "nhn_sms" else keys

    def register(self, control: ControlClient) -> None:
        control.register_keys(self._app.registration())
        control.register_senders(KOREAN_SENDER)
        control.register_profiles(PROFILE)
        control.register_templates(alimtalk_template())
        control.settings(reports="off")

    def environment(self) -> dict[str, str]:
        found = super().environment()
        return {**found, "NHN_KAKAO_URL": found["NHN_SMS_URL"]}


class Nobody(StandIn):
    """The inbox: nothing runs, and nothing is asked."""

    def start(self, behaviour: Behaviour) -> None:
        """There is nothing to start."""

    def answered(self) -> int:
        return 0


STAND_INS: Mapping[str, type[StandIn]] = {
    "smtp": Relay,
    "solapi": Solapi,
    "twilio": Twilio,
    "nhn_sms": Nhn,
    "solapi_kakao": Solapi,
    "nhn_kakao": Nhn,
    "in_app": Nobody,
}
"""By the adapter's name."""


def alimtalk_template() -> dict[str, Any]:
    """As `ControlClient.register_templates` takes it: approved, with two variables and a button."""
    button = {"buttonName": "Follow it", "buttonType": "WL", "linkMo": "https://shop.example/orders"}
    return {"id": TEMPLATE, "profile": PROFILE, "name": "Shipped", "content": TEMPLATE_TEXT, "buttons": [button]}
