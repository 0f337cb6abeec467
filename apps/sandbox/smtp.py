"""The stand-in for a mail relay, providers.md section 3.2: submission with STARTTLS, and with TLS from the first byte.

The protocol is aiosmtpd's, which nobody here has written; what it does not check stands in mail_rules.py.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import secrets
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from apps.sandbox.behaviours import Action
from apps.sandbox.exchange import Link, Route
from apps.sandbox.journal import Journal, Outcome
from apps.sandbox.mail_behaviours import MailBehaviour, MailBehaviours
from apps.sandbox.mail_rules import Mail, read_mail, why_refused
from apps.sandbox.provider import Settings

HOSTNAME = "relay.sandbox.test"
JOURNAL_BYTES = 256 * 1024
MESSAGE_ID_HEADER = "x-automata-message-id"
logging.getLogger("mail.log").setLevel(logging.ERROR)  # it warns of an attribute that aiosmtpd itself sets
_EXTENSIONS = ("250-PIPELINING", "250-ENHANCEDSTATUSCODES")


@dataclass
class MailSettings(Settings):
    """A relay's settings, beside those of every stand-in (goaways and stream limits mean nothing to it)."""

    max_message_bytes: int = 25 * 1024 * 1024
    max_recipients: int = 100  # of one message
    max_connections: int = 0  # 0: any number
    messages_per_connection: int = 0  # 421 after so many; 0: any number
    idle_timeout_s: float = 300.0


@dataclass(frozen=True, slots=True)
class Account:
    """Who may send: a user, its password and the domains that it has verified."""

    username: str
    password: str
    domains: frozenset[str]


class Relay:
    """A relay with its accounts, behaviours and journal; `session` makes what speaks to one client."""

    name = "smtp"

    def __init__(
        self,
        settings: MailSettings,
        journal: Journal,
        *,
        tls: ssl.SSLContext,
        connection: Callable[..., asyncio.BaseProtocol],
        seed: int = 0,
    ) -> None:
        self.settings = settings
        self.journal = journal
        self.behaviours = MailBehaviours(seed=seed)
        self.tls = tls
        self._connection = connection
        self.connections_total = self.max_concurrent_streams = self.goaways = 0
        self.accounts: dict[str, Account] = {}
        self.connections: dict[int, Link] = {}
        self.numbers = itertools.count(1)
        self._initial = settings.as_json()

    def session(self, *, is_tls: bool) -> asyncio.BaseProtocol:
        """What answers a new connection; `is_tls`: TLS has been spoken from the first byte."""
        settings = self.settings
        self.connections_total += 1
        if settings.down:
            return _Closed(settings.down)
        if settings.max_connections and len(self.connections) >= settings.max_connections:
            return _Closed("unavailable", "421 4.7.0 Too many concurrent connections")
        return self._connection(self, is_tls=is_tls)

    def entered(self, link: Link) -> None:
        """A connection is open."""
        self.connections[link.number] = link
        self.max_concurrent_streams = max(self.max_concurrent_streams, len(self.connections))

    def account(self, username: bytes, password: bytes) -> Account | None:
        """The account of these credentials."""
        found = self.accounts.get(username.decode("utf-8", "replace"))
        known = found.password.encode() if found is not None else b""
        return found if found is not None and secrets.compare_digest(known, password) else None

    # the control endpoint

    def register(self, body: Mapping[str, Any]) -> None:
        """{"username", "password", "domains": ["example.com"]}."""
        username, password, domains = body.get("username"), body.get("password"), body.get("domains")
        if not isinstance(username, str) or not isinstance(password, str) or not isinstance(domains, list):
            raise ValueError("username, password: texts; domains: a list")
        self.accounts[username] = Account(username, password, frozenset(str(name).lower() for name in domains))

    def registered(self) -> list[dict[str, Any]]:
        return [{"username": held.username, "domains": sorted(held.domains)} for held in self.accounts.values()]

    def register_token(self, body: Mapping[str, Any]) -> None:
        raise ValueError("addresses belong nowhere; use POST /behaviours")

    def restore_settings(self) -> None:
        """Back to the settings of the command line."""
        self.settings.change(self._initial)

    def clear_counts(self) -> None:
        """Forget the counts of connections."""
        self.connections_total = 0
        self.max_concurrent_streams = 0
        self.goaways = 0

    def forget(self, what: str) -> bool:
        if what == "keys":
            self.accounts.clear()
        return what in ("keys", "tokens")

    def control_routes(self) -> dict[tuple[str, str], Route]:
        return {}


class _Closed(asyncio.Protocol):
    """A connection of a relay that is down: told so, dropped, or never answered."""

    def __init__(self, how: str, line: str = "421 4.3.2 Service not available, closing transmission channel") -> None:
        self._how = how
        self._line = line

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        if self._how == "refuse":
            transport.abort()
        elif self._how == "unavailable":
            transport.write(self._line.encode() + b"\r\n")
            transport.close()


class StrictConnection(SMTP):
    """One client connection, for tests."""

    line_length_limit = 1024 * 1024  # so that mail_rules answers for long lines; commands have a limit of their own

    def __init__(self, relay: Relay, *, is_tls: bool) -> None:
        self.number = next(relay.numbers)
        self._relay = relay
        super().__init__(
            _Handler(relay),
            data_size_limit=relay.settings.max_message_bytes,
            enable_SMTPUTF8=True,
            hostname=HOSTNAME,
            ident="ESMTP sandbox",
            tls_context=None if is_tls else relay.tls,
            timeout=relay.settings.idle_timeout_s,
            auth_require_tls=not is_tls,
            authenticator=_authenticate(relay),
            loop=asyncio.get_running_loop(),
        )
        self._auth_required = True  # given to the constructor it warns, although TLS is spoken

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._relay.entered(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._relay.connections.pop(self.number, None)
        super().connection_lost(error)

    async def smtp_DATA(self, arg: str) -> None:
        handler = self.event_handler
        if any(behaviour.stage == "data" for behaviour in handler.chosen.values()):
            handler.record_all("dropped", self, b"", None, 0, "abort-data")
            await self.vanish()
        await super().smtp_DATA(arg)

    def _set_post_data_state(self) -> None:
        super()._set_post_data_state()  # type: ignore[no-untyped-call]
        self.event_handler.chosen.clear()

    def abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()  # type: ignore[attr-defined]  # typed as the base of all transports

    def goaway(self, last_stream_id: int, error_code: int, debug: bytes) -> frozenset[int]:
        if self.transport is not None:
            self.transport.write(b"421 4.3.2 System is shutting down\r\n")  # type: ignore[attr-defined]
            self.transport.close()
        return frozenset()

    def flush(self) -> None:
        """Nothing is queued."""

    async def vanish(self) -> None:
        """Drop the connection; never returns, since its end cancels who waits here."""
        self.abort()
        await asyncio.get_running_loop().create_future()

    async def leave(self, line: str) -> None:
        """Say the line and close; never returns."""
        await self.push(line)
        assert self.transport is not None
        self.transport.close()
        await asyncio.get_running_loop().create_future()


def _authenticate(relay: Relay) -> Callable[..., AuthResult]:
    def check(server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any) -> AuthResult:
        assert isinstance(data, LoginPassword)
        account = relay.account(data.login, data.password)
        return AuthResult(success=account is not None, handled=False, auth_data=account)

    return check


def _account_of(session: Session) -> Account:
    account: Any = session.auth_data
    assert isinstance(account, Account)
    return account


class _Handler:
    """What a connection asks at each command; aiosmtpd calls `handle_<COMMAND>`."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self.chosen: dict[str, MailBehaviour] = {}
        self._messages = 0

    async def handle_EHLO(
        self, server: StrictConnection, session: Session, envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        session.host_name = hostname
        return [*responses[:-1], *_EXTENSIONS, responses[-1]]

    async def handle_MAIL(
        self, server: StrictConnection, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        limit = self._relay.settings.messages_per_connection
        if limit and self._messages >= limit:
            await server.leave("421 4.7.0 Too many messages on this connection")
        account = _account_of(session)
        if address.rpartition("@")[2].lower() not in account.domains:
            return f"553 5.7.1 <{address}>: Sender address rejected: not owned by user {account.username}"
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 2.1.0 Ok"

    async def handle_RCPT(
        self, server: StrictConnection, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if len(envelope.rcpt_tos) >= self._relay.settings.max_recipients:
            return "452 4.5.3 Too many recipients"
        local, at, domain = address.rpartition("@")
        if not at or not local or len(local.encode()) > 64 or not domain or len(domain) > 255:
            return f"553 5.1.3 <{address}>: Recipient address syntax is bad"
        if not address.isascii() and not envelope.smtp_utf8:
            return f"553 5.6.7 <{address}>: Address needs SMTPUTF8"
        behaviour = self._relay.behaviours.choose(address)
        if behaviour.stage == "rcpt":
            if behaviour.action is Action.ABORT:
                self._record("dropped", server, address, b"", None, 0, behaviour.name)
                await server.vanish()
            if behaviour.delay_s:
                await asyncio.sleep(behaviour.delay_s)
            if not behaviour.accepted:
                self._record("refused", server, address, b"", None, behaviour.status, behaviour.reason)
                if behaviour.status == 421:
                    await server.leave(behaviour.line(address))
                return behaviour.line(address)
        self.chosen[address] = behaviour
        envelope.rcpt_tos.append(address)
        envelope.rcpt_options.extend(options)
        return "250 2.1.5 Ok"

    async def handle_DATA(self, server: StrictConnection, session: Session, envelope: Envelope) -> str:
        settings = self._relay.settings
        content = envelope.original_content or b""
        self._messages += 1
        if settings.latency_ms:
            await asyncio.sleep(settings.latency_ms / 1000)
        mail = read_mail(content)
        if isinstance(mail, str):
            refusal, parsed = mail, None
        else:
            refusal, parsed = why_refused(
                mail, content, domains=_account_of(session).domains,
                eight_bit="BODY=8BITMIME" in envelope.mail_options, utf8=bool(envelope.smtp_utf8),
            ), mail  # fmt: skip
        if refusal:
            self.record_all("refused", server, content, parsed, int(refusal[:3]), refusal.split(" ", 2)[1])
            return refusal
        for address, behaviour in self.chosen.items():
            if behaviour.stage == "message":
                return await self._behave(server, address, behaviour, content, parsed)
        queued = secrets.token_hex(6).upper()
        self.record_all("accepted", server, content, parsed, 250, "", queued)
        return f"250 2.0.0 Ok: queued as {queued}"

    async def _behave(
        self, server: StrictConnection, address: str, behaviour: MailBehaviour, content: bytes, mail: Mail | None
    ) -> str:
        """What one recipient asks for happens to the whole message: SMTP has one answer for it."""
        if behaviour.action is Action.ANSWER:
            self.record_all("refused", server, content, mail, behaviour.status, behaviour.reason)
            if behaviour.status == 421:
                await server.leave(behaviour.line(address))
            return behaviour.line(address)
        outcome: Outcome = "accepted" if behaviour.accepted else "dropped"
        self.record_all(outcome, server, content, mail, 0, behaviour.name)
        if behaviour.action is Action.ABORT:
            await server.vanish()
        await asyncio.get_running_loop().create_future()
        raise AssertionError  # the connection's end has canceled this

    def record_all(
        self,
        outcome: Outcome,
        server: StrictConnection,
        content: bytes,
        mail: Mail | None,
        status: int,
        reason: str,
        queued: str = "",
    ) -> None:
        """One entry of the journal for each recipient."""
        assert server.envelope is not None
        for address in server.envelope.rcpt_tos:
            self._record(outcome, server, address, content, mail, status, reason, queued)

    def _record(
        self,
        outcome: Outcome,
        server: StrictConnection,
        address: str,
        content: bytes,
        mail: Mail | None,
        status: int,
        reason: str,
        queued: str = "",
    ) -> None:
        envelope = server.envelope
        assert envelope is not None
        headers = {name: "\n".join(values) for name, values in mail.headers.items()} if mail is not None else {}
        headers |= {
            "envelope-from": str(envelope.mail_from or ""),
            "envelope-to": ", ".join(map(str, envelope.rcpt_tos)),
            "envelope-options": " ".join(envelope.mail_options),
        }
        message_id = headers.get(MESSAGE_ID_HEADER) or headers.get("message-id", "")
        self._relay.journal.record(
            outcome, address, message_id, queued, headers, content[:JOURNAL_BYTES], status, reason, server.number,
            self._messages,
        )  # fmt: skip
