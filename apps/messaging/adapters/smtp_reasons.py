"""What each answer of a mail server means to us.

The enhanced status code decides where there is one (RFC 3463, IANA's registry), by providers.md 3.2; without, the basic
code and, of 550, its words. Permanent faults of the recipient end the subscription with -42 or -40; a full mailbox and
what is not clear count, and end it with -43 when they repeat. What is ours or the server's never touches it.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from apps.messaging.adapters.base import Outcome

__all__ = ["SMTP", "Reply", "SmtpVerdict", "smtp_verdict"]

# Subscription codes of the specification 3.3.
INVALID = -40
HARD_BOUNCE = -42
SOFT_BOUNCE = -43
GREYLIST_WAIT_S = 300.0


class Reply(NamedTuple):
    """An answer, read: `550 5.1.1 User unknown` is (550, "5.1.1", "User unknown")."""

    code: int
    enhanced: str
    text: str

    @classmethod
    def read(cls, code: int, text: str) -> Reply:
        found = _ENHANCED.match(text)
        if found is None or found[1][0] != str(code)[0]:
            return cls(code, "", text.strip())
        return cls(code, found[1], text[found.end() :].strip())

    @property
    def reason(self) -> str:
        """Our word for it in figures and events: the enhanced code, else the basic one."""
        return self.enhanced or str(self.code)


_ENHANCED = re.compile(r"\s*([245]\.\d{1,3}\.\d{1,3})(?:\s|$)")


class SmtpVerdict(NamedTuple):
    """What follows from an answer."""

    outcome: Outcome
    subscription_status: int | None = None
    soft_status: int | None = None
    retry_after_s: float | None = None


_HARD = SmtpVerdict(Outcome.RECIPIENT_GONE, HARD_BOUNCE)
_BAD_SYNTAX = SmtpVerdict(Outcome.RECIPIENT_GONE, INVALID)
_SOFT = SmtpVerdict(Outcome.RECIPIENT_GONE, soft_status=SOFT_BOUNCE)
"""Permanent by its class, and maybe not for ever."""
_OURS = SmtpVerdict(Outcome.PAYLOAD_REJECTED)
_CREDENTIAL = SmtpVerdict(Outcome.CREDENTIAL)
_BUSY = SmtpVerdict(Outcome.TRANSIENT)
_BUSY_MAILBOX = SmtpVerdict(Outcome.TRANSIENT, soft_status=SOFT_BOUNCE)
_TOO_FAST = SmtpVerdict(Outcome.THROTTLED, retry_after_s=60.0)
_GREYLISTED = SmtpVerdict(Outcome.TRANSIENT, retry_after_s=GREYLIST_WAIT_S)

SMTP: dict[str, SmtpVerdict] = {
    # --- Class 5: addresses
    "5.1.0": _SOFT,
    "5.1.1": _HARD,  # no such mailbox
    "5.1.2": _HARD,  # no such domain
    "5.1.3": _BAD_SYNTAX,
    "5.1.4": _SOFT,  # ambiguous
    "5.1.6": _HARD,  # moved
    "5.1.7": _OURS,  # the sender's syntax
    "5.1.8": _OURS,  # the sender's domain
    "5.1.10": _HARD,  # null MX
    "5.1": _SOFT,
    # --- Mailboxes
    "5.2.1": _HARD,  # disabled
    "5.2.2": _SOFT,  # full
    "5.2.3": _OURS,  # too large
    "5.2": _SOFT,
    # --- Systems
    "5.3.4": _OURS,  # too large
    "5.3": _OURS,
    # --- The way there: Exchange says 5.4.1 of unknown recipients, others of hosts that are away
    "5.4": _SOFT,
    # --- Protocol and content
    "5.5": _OURS,
    "5.6": _OURS,
    # --- Policy, authentication, reputation
    "5.7.8": _CREDENTIAL,
    "5.7.9": _CREDENTIAL,  # the mechanism is too weak
    "5.7.11": _CREDENTIAL,  # encryption is needed for it
    "5.7": _OURS,
    # --- Class 4
    "4.1.8": _BUSY,
    "4.1": _BUSY_MAILBOX,
    "4.2.1": _BUSY_MAILBOX,
    "4.2.2": _BUSY_MAILBOX,  # full
    "4.2": _BUSY_MAILBOX,
    "4.3": _BUSY,
    "4.4": _BUSY,
    "4.5": _BUSY,
    "4.6": _BUSY,
    "4.7.0": _TOO_FAST,
    "4.7.1": _GREYLISTED,
    "4.7.28": _TOO_FAST,  # Google: too much from this address
    "4.7": _BUSY,
}
"""Enhanced code, or the beginning of one → verdict. The longest that fits decides."""

WITHOUT_ENHANCED: dict[int, SmtpVerdict] = {
    421: _BUSY,
    450: _BUSY_MAILBOX,
    451: _BUSY,
    452: _BUSY,
    454: _BUSY,
    455: _BUSY,
    500: _OURS,
    501: _OURS,
    502: _OURS,
    503: _OURS,
    504: _OURS,
    530: _CREDENTIAL,  # authentication is required
    534: _CREDENTIAL,
    535: _CREDENTIAL,
    538: _CREDENTIAL,
    550: _SOFT,  # unless its words are clear
    551: _SOFT,
    552: _SOFT,  # of a message, too large: see `smtp_verdict`
    553: _SOFT,
    554: _SOFT,
    555: _OURS,
    556: _HARD,  # RFC 7504: accepts no mail
}

_UNKNOWN_USER = re.compile(
    r"no such (user|mailbox|recipient|person)|(user|mailbox|recipient|address|account)( is)? (unknown|not found)"
    r"|unknown (user|mailbox|recipient)|does not exist|doesn't exist|no mailbox here|invalid (recipient|mailbox)",
    re.IGNORECASE,
)
_POLICY = re.compile(
    r"spam|blocked|black ?list|block ?list|reputation|polic(y|ies)|dmarc|\bspf\b|dkim|relay|denied|unsolicited|\bptr\b"
    r"|reverse dns",
    re.IGNORECASE,
)


def smtp_verdict(reply: Reply, *, stage: str = "rcpt") -> SmtpVerdict:
    """The verdict on a refusal. `stage`: `mail`, `rcpt`, `data` or `message`, the command that was refused: after a
    message was read, and before a recipient was named, a refusal without an enhanced code is not about the recipient.
    """
    if reply.enhanced:
        found = _by_prefix(reply.enhanced)
        if found is not None:
            return found
    verdict = WITHOUT_ENHANCED.get(reply.code) or (_BUSY if 400 <= reply.code < 500 else _OURS)
    if verdict is _SOFT:
        if stage != "rcpt" or _POLICY.search(reply.text):
            return _OURS
        if _UNKNOWN_USER.search(reply.text):
            return _HARD
    return verdict


def _by_prefix(enhanced: str) -> SmtpVerdict | None:
    class_, subject, _ = enhanced.split(".")
    return SMTP.get(enhanced) or SMTP.get(f"{class_}.{subject}")
