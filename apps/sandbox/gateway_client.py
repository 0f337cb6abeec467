"""What the control endpoints of the gateways' stand-ins take beyond those of all; part of `client.ControlClient`."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any


class GatewayCalls:
    """The calls for Solapi, Twilio and NHN."""

    def _call(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        raise NotImplementedError

    def register_senders(self, *senders: str | Mapping[str, Any]) -> None:
        """Sender numbers (Twilio: also names, MessagingServiceSids): "0212345678", or {"number", "state", "account"}.

        state: active, blocked, reported. account: whose it is (Solapi's account id, which is the API key unless given
        otherwise; account SID; app key); without it everybody's.
        """
        self._call("POST", "/senders", {"senders": list(senders)})

    def register_profiles(self, *profiles: str | Mapping[str, Any]) -> None:
        """Kakao channels or sender profiles: "KA01PF…", or {"id", "search_id", "account", "blocked"}, NHN also "is_new"
        and "can_resend"."""
        given = [{"id": profile} if isinstance(profile, str) else profile for profile in profiles]
        self._call("POST", "/profiles", {"profiles": given})

    def register_templates(self, *templates: Mapping[str, Any]) -> None:
        """Alimtalk templates, or what Kakao decides on one: {"id", "profile", "name", "content", "status", "buttons",
        "comment"}.

        status: Solapi PENDING, INSPECTING, APPROVED, REJECTED; NHN TSC01 … TSC04; without it approved.
        """
        self._call("POST", "/templates", {"templates": list(templates)})

    def opt_out(self, *numbers: str, remove: bool = False) -> None:
        """Numbers that have refused messages."""
        self._call("POST", "/opt-outs", {"numbers": list(numbers), "remove": remove})

    def set_opt_out_numbers(self, *numbers: str) -> None:
        """NHN: the 080 numbers that advertisements may name."""
        self._call("POST", "/opt-out-numbers", {"numbers": list(numbers)})

    def unsubscribe(self, number: str, **more: str) -> None:
        """NHN: this number calls the 080 number (`opt_out_number=`), which is told by webhook too (`app_key=`)."""
        self._call("POST", "/unsubscribe", {"number": number, **more})

    def inbound(self, *, account: str, sender: str, to: str, body: str, url: str = "") -> dict[str, Any]:
        """Twilio: somebody writes to one of our numbers; posted to `url`. STOP opts out."""
        given = {"account": account, "from": sender, "to": to, "body": body, "url": url}
        return self._call("POST", "/inbound", given)

    def report_to(self, url: str, *, secret: str = "", account: str = "", service: str = "") -> None:
        """Where delivery reports go; an empty url: nowhere. service: NHN sms or kakao, Solapi group."""
        self._call("POST", "/hooks", {"url": url, "secret": secret, "account": account, "service": service})

    def reports(self, *, limit: int = 1000) -> dict[str, Any]:
        """{"posts", "delivered", "pending", "held", "log": [{"at", "url", "event", "attempt", "status", …}]}"""
        return self._call("GET", f"/reports?limit={limit}")

    def release_reports(self, *, limit: int | None = None) -> int:
        """Let requests go on that the setting reports="hold" keeps back; gives how many."""
        released: int = self._call("POST", "/reports/release", {"limit": limit})["released"]
        return released

    def wait_for_reports(self, *, timeout_s: float = 10.0) -> dict[str, Any]:
        """Wait until nothing is due or under way; gives the reports. Raises TimeoutError."""
        deadline = time.monotonic() + timeout_s
        while (state := self.reports())["pending"]:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{state['pending']} reports are still under way")
            time.sleep(0.01)
        return state

    def findings(self) -> list[str]:
        """What the gateway let pass and we should not have sent."""
        found: list[str] = self._call("GET", "/findings")["findings"]
        return found
