"""What the mail relay does with a recipient: the table, and the marker in the local part of an address.

`anna+550-5.1.1@example.com` is refused so; `anna+452-4.2.2~2@example.com` for the first two tries, then accepted. Rules
of the control endpoint come first, as in behaviours.py. A code that the table does not list (`+554-5.7.9`) is answered
too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

from apps.sandbox.behaviours import Action, Behaviour, Behaviours

_MARKER = re.compile(r"\+([A-Za-z0-9.-]+?)(?:~(\d+))?@")
_CODE = re.compile(r"(data-)?([245]\d\d)(?:-([245]\.\d{1,3}\.\d{1,3}))?")
Stage = Literal["rcpt", "data", "message"]


@dataclass(frozen=True, slots=True)
class MailBehaviour(Behaviour):
    """`status` is the SMTP code, `reason` the enhanced one ("" for none), `meaning` the text behind them.

    `stage`: after RCPT TO, at the DATA command, or once the message has been read.
    """

    stage: Stage = "rcpt"

    def line(self, address: str) -> str:
        """The answer, as it goes over the wire."""
        text = self.meaning.replace("{address}", address)
        return f"{self.status} {self.reason} {text}" if self.reason else f"{self.status} {text}"


def _answer(name: str, text: str, *, stage: Stage = "rcpt") -> MailBehaviour:
    parts = _CODE.fullmatch(name.removesuffix("-text"))
    assert parts is not None
    return MailBehaviour(name, "", int(parts[2]), parts[3] or "", meaning=text, stage="message" if parts[1] else stage)


ACCEPTED = MailBehaviour("accepted", "", 250, "2.1.5", accepted=True, meaning="Ok")

# providers.md section 3.2 and what large receivers say
SMTP_TABLE: tuple[Behaviour, ...] = (
    ACCEPTED,
    _answer("421-4.7.0", "Try again later, closing connection"),
    _answer("421", "Service not available, closing transmission channel"),
    _answer("450-4.2.1", "<{address}>: The mailbox is receiving mail at a rate that prevents delivery"),
    _answer("450-4.7.1", "<{address}>: Recipient address rejected: Greylisted, try again in 300 seconds"),
    _answer("451-4.3.0", "Temporary lookup failure"),
    _answer("451-4.4.1", "Connection to the next host timed out"),
    _answer("452-4.2.2", "<{address}>: The recipient's mailbox is over quota"),
    _answer("452-4.3.1", "Insufficient system storage"),
    _answer("452-4.5.3", "Too many recipients"),
    _answer("550", "Requested action not taken: mailbox unavailable"),
    _answer("550-5.1.1", "<{address}>: Recipient address rejected: User unknown in virtual mailbox table"),
    _answer("550-5.1.2", "<{address}>: Domain not found"),
    _answer("550-5.1.6", "<{address}>: The mailbox has moved"),
    _answer("550-5.2.1", "<{address}>: The mailbox is disabled"),
    _answer("550-5.4.1", "<{address}>: Recipient address rejected: Access denied"),
    _answer("550-5.7.1", "Our system has detected that this message is likely unsolicited mail"),
    _answer("550-5.7.26", "Unauthenticated mail from this domain is not accepted due to its DMARC policy"),
    _answer("551-5.1.7", "Sender address syntax is bad"),
    _answer("552-5.2.2", "<{address}>: The mailbox is full"),
    _answer("553-5.1.3", "<{address}>: Recipient address syntax is bad"),
    _answer("553-5.1.8", "Sender address has no A or MX record"),
    _answer("554", "Transaction failed"),
    _answer("556-5.1.10", "<{address}>: Domain does not accept mail (null MX)"),
    _answer("data-421-4.3.2", "System is shutting down"),
    _answer("data-450-4.7.1", "Message deferred by policy"),
    _answer("data-451-4.7.0", "Temporary server error, please try again later"),
    _answer("data-452-4.3.1", "Insufficient system storage"),
    _answer("data-550-5.6.0", "Message content is not acceptable"),
    _answer("data-550-5.7.1", "Message rejected as spam by content filtering"),
    _answer("data-552-5.3.4", "Message size exceeds fixed limit"),
    _answer("data-554-5.7.1", "Message contains a virus"),
    MailBehaviour("slow-1s", "", 250, "2.1.5", accepted=True, delay_s=1.0, meaning="Ok"),
    MailBehaviour("slow-5s", "", 250, "2.1.5", accepted=True, delay_s=5.0, meaning="Ok"),
    MailBehaviour("hang", "", 0, stage="message", action=Action.HANG, meaning="no answer to the message; not accepted"),
    MailBehaviour("hang-accepted", "", 0, stage="message", action=Action.HANG, accepted=True,
                  meaning="no answer to the message, yet accepted"),
    MailBehaviour("abort-rcpt", "", 0, action=Action.ABORT, meaning="connection dropped at RCPT TO"),
    MailBehaviour("abort-data", "", 0, stage="data", action=Action.ABORT, meaning="connection dropped at DATA"),
    MailBehaviour("abort", "", 0, stage="message", action=Action.ABORT,
                  meaning="connection dropped after the message; not accepted"),
    MailBehaviour("abort-accepted", "", 0, stage="message", action=Action.ABORT, accepted=True,
                  meaning="connection dropped after the message, yet accepted"),
)  # fmt: skip


class MailBehaviours(Behaviours):
    """The relay's behaviours; tokens are addresses."""

    def __init__(self, *, seed: int = 0) -> None:
        super().__init__(SMTP_TABLE, seed=seed)

    def choose(self, token: str) -> MailBehaviour:
        """What to do with this recipient. Counts, so call it once for each RCPT TO."""
        if self._rules or self._by_token:
            rule = self._choose_rule(token)
            if rule is not None:
                assert isinstance(rule.behaviour, MailBehaviour)
                return rule.behaviour
        marker = _MARKER.search(token) if "+" in token else None
        behaviour = self._named(marker[1]) if marker is not None else None
        if marker is None or behaviour is None:
            return ACCEPTED
        chosen = self._first(token, int(marker[2]), behaviour) if marker[2] else behaviour
        return chosen if isinstance(chosen, MailBehaviour) else ACCEPTED

    def _named(self, name: str) -> Behaviour | None:
        found = self.table.get(name)
        if found is None and _CODE.fullmatch(name):
            found = self.table[name] = _answer(name, "As asked for by the address")
        return found

    def _behaviour(self, value: Any) -> Behaviour:
        name = value.get("name") if isinstance(value, dict) else value
        if isinstance(name, str):
            self._named(name)
        return super()._behaviour(value)
