"""Plain SMTP: to a relay or a mail server, over connections that stay open (RFC 5321, 2920, 3207, 4954, 6531).

A few sockets, each with a thread of its own, carry many messages one behind the other; where the server takes commands
in advance (PIPELINING), the next envelope leaves with the end of the message before it, so that a message costs one
round trip. What each refusal means is in `smtp_reasons`.
"""

from __future__ import annotations

import contextlib
import os
import queue
import re
import smtplib
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

from django.utils.translation import gettext_lazy

from apps.messaging.adapters import email_content
from apps.messaging.adapters.base import (
    Content,
    ContentError,
    CredentialError,
    Delivery,
    Endpoint,
    FieldKind,
    Outcome,
    Result,
    SecretField,
    summary_of,
)
from apps.messaging.adapters.email_building import Author, Envelope, PartsMaker, envelope_address
from apps.messaging.adapters.gateway import GroupSender
from apps.messaging.adapters.smtp_reasons import INVALID, SMTP, WITHOUT_ENHANCED, Reply, smtp_verdict
from automata_signal import outgoing
from automata_signal.metrics import provider_answered

__all__ = ["SmtpAdapter", "SmtpCredential", "SmtpSender", "sign_in_once"]

SECURITY = ("starttls", "tls", "none")
CONNECT_TIMEOUT_S = 10.0
OPEN_MAX_S = 30.0
"""For all of connecting, encrypting and signing in. Time-outs of sockets begin anew with each byte, and the server is
whoever an operator names: one that says a byte at a time must not keep a worker from everybody else's messages."""
WRITE_BYTES_PER_S = 64 * 1024
"""A server that takes a message more slowly than this is given up."""
KEEP_ALIVE_S = 20.0
"""A connection that was idle for longer is asked whether it is still there."""
ADDRESSES_TRIED_MAX = 3
LINE_BYTES_MAX = 8_192
LINES_MAX = 200
DROPPED_MAX = 3
"""Messages of a chunk at each of which two connections broke; the rest is then left to a later attempt."""
FAILURE_KEPT_S = 1.0
"""How long a server that cannot be reached is not called again: each message would wait for its own time-out."""


class SmtpAdapter:
    """E-mail by SMTP. Secret: where the server is, how it is spoken to, and who sends."""

    name: ClassVar[str] = "smtp"
    resend_is_harmless: ClassVar[bool] = False
    needs_secret: ClassVar[bool] = True
    reasons: ClassVar[frozenset[str]] = frozenset(
        {code for code in SMTP if code.count(".") == 2}
        | {str(code) for code in WITHOUT_ENHANCED}
        | {"couldnt_connect", "connection_lost", "operation_timedout", "message_too_large", "invalid_address"}
    )
    secret_fields: ClassVar[tuple[SecretField, ...]] = (
        SecretField("host", gettext_lazy("Server"), placeholder="smtp.example.com"),
        SecretField("port", gettext_lazy("Port"), FieldKind.NUMBER, placeholder="587"),
        SecretField(
            "security",
            gettext_lazy("Encryption"),
            choices=(
                ("starttls", gettext_lazy("STARTTLS (port 587)")),
                ("tls", gettext_lazy("TLS (port 465)")),
                ("none", gettext_lazy("None (a relay of our own)")),
            ),
        ),
        SecretField("username", gettext_lazy("User name")),
        SecretField("password", gettext_lazy("Password"), is_secret=True),
        SecretField("from_address", gettext_lazy("Sender's address"), placeholder="news@example.com"),
        SecretField("from_name", gettext_lazy("Sender's name")),
        SecretField(
            "bounce_address",
            gettext_lazy("Address for bounces"),
            help=gettext_lazy("The envelope's sender; the sender's address unless told."),
        ),
        SecretField("track_opens", gettext_lazy("Count opens"), FieldKind.YES_NO),
        SecretField("track_clicks", gettext_lazy("Count clicks"), FieldKind.YES_NO),
    )

    def check_content(self, content: Content) -> None:
        """Raise `ContentError` for what is no e-mail."""
        email_content.check_content(content)

    def check_secret(self, secret: Mapping[str, Any]) -> None:
        """Raise `CredentialError` for what is missing or malformed. No network: names are not resolved."""
        SmtpCredential.read(secret)

    def summarise_secret(self, secret: Mapping[str, Any]) -> dict[str, str]:
        """All but the password."""
        return summary_of(self.secret_fields, secret)

    def open(self, secret: Mapping[str, Any], endpoint: Endpoint) -> SmtpSender:
        """A sender for this credential. Connects on the first send. Raises `CredentialError`."""
        return SmtpSender(SmtpCredential.read(secret), endpoint)


class SmtpCredential(NamedTuple):
    """A secret that was read."""

    host: str
    port: int
    security: str
    username: str
    password: str
    from_address: str
    from_name: str
    bounce_address: str
    track_opens: bool
    track_clicks: bool

    @classmethod
    def read(cls, secret: Mapping[str, Any]) -> SmtpCredential:
        """Raise `CredentialError` naming the first key that is missing, unknown or malformed."""
        if unknown := set(secret) - set(cls._fields):
            raise CredentialError(min(unknown), "is not a key of an SMTP secret")
        texts: dict[str, Any] = {name: _text_of(secret, name) for name in cls._fields if name not in _TYPED}
        security = texts["security"] or "starttls"
        if security not in SECURITY:
            raise CredentialError("security", f"must be one of {', '.join(SECURITY)}")
        host = texts["host"]
        if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,252}[A-Za-z0-9])?|[0-9A-Fa-f:]{2,39}", host):
            raise CredentialError("host", "must be the name or address of a server")
        port = secret.get("port", 465 if security == "tls" else 587)
        if isinstance(port, bool) or not isinstance(port, int) or not 1 <= port <= 65_535:
            raise CredentialError("port", "must be a number from 1 to 65535")
        if bool(texts["username"]) != bool(texts["password"]):
            raise CredentialError("password" if texts["username"] else "username", "is missing")
        if texts["password"] and security == "none":
            raise CredentialError("security", "a password is never sent without encryption")
        for name in ("from_address", "bounce_address"):
            if (name == "from_address" or texts[name]) and not email_content.is_address(texts[name]):
                raise CredentialError(name, "is not an e-mail address")
            if not texts[name].rpartition("@")[0].isascii():
                raise CredentialError(name, "must be ASCII before the @")
        flags = {name: read_flag(secret, name) for name in ("track_opens", "track_clicks")}
        return cls(**{**texts, "security": security, "port": port, **flags})


_TYPED = ("port", "track_opens", "track_clicks")


def _text_of(secret: Mapping[str, Any], name: str) -> str:
    value = secret.get(name, "")
    if not isinstance(value, str) or len(value) > 500 or not value.isprintable():
        raise CredentialError(name, "must be one line of text")
    return value


def read_flag(secret: Mapping[str, Any], name: str) -> bool:
    """Yes unless told. Raises `CredentialError`."""
    value = secret.get(name, True)
    if not isinstance(value, bool):
        raise CredentialError(name, "must be true or false")
    return value


# --- Sending -------------------------------------------------------------------------------------------------------


class _Mail(NamedTuple):
    """A message that is ready to leave."""

    message_id: str
    envelope: Envelope
    data: bytes


class SmtpSender(GroupSender):
    """Open connections to one server with one credential. One `send` at a time, from one thread."""

    provider = "smtp"
    per_request = 20
    """Messages that a connection takes at a time, one behind the other."""

    def __init__(self, credential: SmtpCredential, endpoint: Endpoint) -> None:
        super().__init__(endpoint)
        sender = envelope_address(credential.from_address)
        assert sender is not None  # the credential was read
        author = Author(
            sender.address,
            credential.from_name,
            credential.track_opens,
            credential.track_clicks,
            endpoint.public_url,
        )
        self._maker = PartsMaker(author)
        self._connections = _Connections(credential, endpoint)

    def close(self) -> None:
        super().close()
        self._connections.close()

    def _exchange(self, group: list[Delivery]) -> list[Result]:
        prepared = [self._prepared(delivery) for delivery in group]
        results = [one for one in prepared if isinstance(one, Result)]
        mails = [one for one in prepared if isinstance(one, _Mail)]
        return results + self._connections.deliver(mails)

    def _prepared(self, delivery: Delivery) -> _Mail | Result:
        envelope = envelope_address(delivery.address)
        if envelope is None:
            return Result(delivery.message_id, Outcome.RECIPIENT_GONE, "invalid_address", subscription_status=INVALID)
        try:
            data = self._maker.built(delivery.content).message(delivery, envelope)
        except ContentError as error:
            return Result(delivery.message_id, Outcome.PAYLOAD_REJECTED, f"invalid {error.field}")
        return _Mail(delivery.message_id, envelope, data)


def _all_of(mails: deque[_Mail]) -> Iterator[_Mail]:
    while mails:
        yield mails.popleft()


class _Broken(Exception):
    """The connection is of no use any more. `reason` is one word, as in `Result.reason`; `result` what became of the
    message that was on its way, if that is known."""

    def __init__(self, reason: str, result: Result | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.result = result


class _NoConnection(Exception):
    """There is none to be had, and what follows for every message."""

    def __init__(self, outcome: Outcome, reason: str) -> None:
        super().__init__(reason)
        self.outcome = outcome
        self.reason = reason


class _Connections:
    """The open connections of a sender, for its threads; a process that was forked opens its own."""

    def __init__(self, credential: SmtpCredential, endpoint: Endpoint) -> None:
        self._credential = credential
        self._endpoint = endpoint
        self._free: queue.LifoQueue[_Connection] = queue.LifoQueue()
        self._owner = os.getpid()
        self._open = 0
        """Connections that there are, free or in use."""
        self._lock = threading.Lock()
        self._failure: _NoConnection | None = None
        self._failed_at = 0.0

    def deliver(self, mails: Sequence[_Mail]) -> list[Result]:
        """A result for each, whatever happens."""
        results: list[Result] = []
        left = deque(mails)
        tries = dropped = 0
        while left:
            try:
                connection = self._taken()
            except _NoConnection as obstacle:
                results += [Result(mail.message_id, obstacle.outcome, obstacle.reason) for mail in left]
                break
            before = len(left)
            try:
                connection.deliver(left, results)
            except _Broken as broken:
                self._closed(connection)
                if broken.result is not None:
                    results.append(broken.result)
                    left.popleft()
                tries = tries + 1 if len(left) == before else 1
                if tries > 1:  # nothing of what is left has been sent, and its first may be what the server minds
                    tries, dropped = 0, dropped + 1
                    for mail in [left.popleft()] if dropped < DROPPED_MAX else _all_of(left):
                        results.append(Result(mail.message_id, Outcome.TRANSIENT, broken.reason))
            else:
                self._free.put(connection)
        return results

    def close(self) -> None:
        while not self._free.empty():
            connection = self._free.get()
            if self._owner == os.getpid():
                connection.quit()
        self._open = 0

    def _taken(self) -> _Connection:
        """A connection that is open, as far as one can know. Raises `_NoConnection`."""
        if self._owner != os.getpid():
            self._owner, self._free, self._open = os.getpid(), queue.LifoQueue(), 0
        while True:
            try:
                connection = self._free.get_nowait()
            except queue.Empty:
                return self._opened()
            if connection.is_alive():
                return connection
            self._closed(connection)

    def _closed(self, connection: _Connection) -> None:
        connection.close()
        with self._lock:
            self._open -= 1

    def _opened(self) -> _Connection:
        try:
            connection = self._newly_opened()
        except _NoConnection as obstacle:
            if obstacle.outcome is not Outcome.TRANSIENT or not self._open:
                raise
            try:  # a server that has enough of us: others carry it
                return self._free.get(timeout=self._endpoint.timeout_s)
            except queue.Empty:
                raise obstacle from None
        with self._lock:
            self._open += 1
        return connection

    def _newly_opened(self) -> _Connection:
        failure = self._failure
        if failure is not None and time.monotonic() - self._failed_at < FAILURE_KEPT_S:
            raise failure
        try:
            connection = _Connection.open(self._credential, self._endpoint)
        except _NoConnection as obstacle:
            self._failure, self._failed_at = obstacle, time.monotonic()
            raise
        self._failure = None
        return connection


# --- One connection ------------------------------------------------------------------------------------------------


class _Client(smtplib.SMTP):
    """Greets, encrypts and signs in; connects to an address that was checked (`automata_signal.outgoing`)."""

    def __init__(self, credential: SmtpCredential, context: ssl.SSLContext | None) -> None:
        self._tls_context = context if credential.security == "tls" else None
        self._copy: socket.socket | None = None
        super().__init__(timeout=CONNECT_TIMEOUT_S, local_hostname=_hostname(credential))
        self._host = credential.host  # whose certificate STARTTLS asks for

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        addresses = outgoing.resolved(host, port)[:ADDRESSES_TRIED_MAX]
        for number, address in enumerate(addresses):
            try:
                connection = socket.create_connection((address, port), timeout / len(addresses))
                break
            except OSError:
                if number == len(addresses) - 1:
                    raise
        connection.settimeout(timeout)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._copy = connection.dup()  # TLS takes the first one over
        if self._tls_context is not None:
            connection = self._tls_context.wrap_socket(connection, server_hostname=host)
        return connection

    def getreply(self) -> tuple[int, bytes]:
        """An answer of `LINES_MAX` lines at most: smtplib would keep them all."""
        if self.file is None and self.sock is not None:
            self.file = _Lines(self.sock.makefile("rb"))
        if isinstance(self.file, _Lines):
            self.file.left = LINES_MAX
        return super().getreply()

    @contextlib.contextmanager
    def ended_after(self, seconds: float) -> Iterator[None]:
        """Whatever the server does, what is done here is over by then."""
        timer = threading.Timer(seconds, self._end)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            timer.join()
            if self._copy is not None:
                self._copy.close()

    def _end(self) -> None:
        if self._copy is not None:
            with contextlib.suppress(OSError):
                self._copy.shutdown(socket.SHUT_RDWR)


class _Lines:
    """What a server says, line by line, and no more than `left` of them."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.left = LINES_MAX

    def readline(self, size: int = -1) -> bytes:
        self.left -= 1
        if self.left < 0:
            raise OSError("the answer does not end")
        line: bytes = self._file.readline(size)
        if line and not line.endswith(b"\n"):
            raise OSError("the answer broke off")
        return line

    def close(self) -> None:
        self._file.close()


def _hostname(credential: SmtpCredential) -> str:
    return credential.from_address.rpartition("@")[2].encode("idna").decode("ascii")


def _signed_in(client: _Client, credential: SmtpCredential, context: ssl.SSLContext | None) -> None:
    code, text = client.connect(credential.host, credential.port)
    if code != 220:
        raise smtplib.SMTPConnectError(code, text)
    client.ehlo_or_helo_if_needed()
    if credential.security == "starttls":
        if not client.has_extn("starttls"):
            raise _NoConnection(Outcome.CREDENTIAL, "starttls_not_offered")
        client.starttls(context=context)
        client.ehlo_or_helo_if_needed()
    if credential.username:
        client.login(credential.username, credential.password)


class _Connection:
    """A session with the server that has signed in."""

    def __init__(self, sock: socket.socket, features: Mapping[str, str], sender: str) -> None:
        self._sock = sock
        self._timeout_s = sock.gettimeout() or CONNECT_TIMEOUT_S
        self._buffer = bytearray()
        self._used_at = time.monotonic()
        self._pipelines = "pipelining" in features
        self._takes_utf8 = "smtputf8" in features
        size = features.get("size", "").strip()
        self._says_size = "size" in features
        self._size_max = int(size) if size.isdecimal() and int(size) else None
        self._sender = sender

    @classmethod
    def open(cls, credential: SmtpCredential, endpoint: Endpoint) -> _Connection:
        """Connect, encrypt, sign in. Raises `_NoConnection`."""
        encrypted = credential.security != "none"
        context = ssl.create_default_context(cafile=endpoint.ca_file or None) if encrypted else None
        client = _Client(credential, context)
        try:
            with client.ended_after(OPEN_MAX_S):
                _signed_in(client, credential, context)
        except _NoConnection:
            client.close()
            raise
        except Exception as error:
            client.close()
            raise _why_not(error) from None
        sock = client.sock
        assert sock is not None
        client.sock = None  # it is ours now
        if client.file is not None:
            client.file.close()
        sock.settimeout(endpoint.timeout_s)
        bounce = credential.bounce_address or credential.from_address
        envelope = envelope_address(bounce)
        assert envelope is not None  # the credential was read
        return cls(sock, client.esmtp_features, envelope.address)

    def is_alive(self) -> bool:
        """Whether it may be used: asked of the server if it was idle for long."""
        if time.monotonic() - self._used_at < KEEP_ALIVE_S:
            return True
        try:
            self._write(b"NOOP\r\n")
            return self._reply().code == 250
        except _Broken:
            return False

    def noop(self) -> tuple[Outcome, str]:
        """Whether the server goes on listening, now that we have signed in."""
        try:
            self._write(b"NOOP\r\n")
            reply = self._reply()
        except _Broken as broken:
            return Outcome.TRANSIENT, broken.reason
        return (Outcome.ACCEPTED, "") if reply.code == 250 else (Outcome.TRANSIENT, reply.reason)

    def quit(self) -> None:
        with contextlib.suppress(_Broken):
            self._write(b"QUIT\r\n")
        self.close()

    def close(self) -> None:
        self._sock.close()

    def deliver(self, mails: deque[_Mail], results: list[Result]) -> None:
        """Send one behind the other, and take each from `mails` when its fate is known. Raises `_Broken`: what is left
        in `mails` was not sent."""
        in_advance: _Mail | None = None  # whose envelope was written already
        while mails:
            mail = mails[0]
            began = time.monotonic()
            refusal = self._local_refusal(mail)
            if refusal is None:
                if in_advance is not mail:
                    self._open_envelope(mail)
                refusal = self._envelope_refusal(mail)
            in_advance = None
            if refusal is not None:
                results.append(refusal)
                mails.popleft()
                continue
            following = mails[1] if len(mails) > 1 and self._pipelines else None
            if following is not None and self._local_refusal(following) is not None:
                following = None
            self._write_message(mail, following)
            in_advance = following
            try:
                reply = self._reply()
            except _Broken as broken:
                raise _unknown(mail, broken.reason) from None
            if reply.code == 421:
                raise _Broken("421", _result(mail, reply, "message"))
            mails.popleft()
            results.append(_result(mail, reply, "message"))
            provider_answered("smtp", time.monotonic() - began)
        self._used_at = time.monotonic()

    def _local_refusal(self, mail: _Mail) -> Result | None:
        if self._size_max is not None and len(mail.data) > self._size_max:
            return Result(mail.message_id, Outcome.PAYLOAD_REJECTED, "message_too_large")
        if mail.envelope.needs_utf8 and not self._takes_utf8:
            return Result(mail.message_id, Outcome.UNSUPPORTED, "smtputf8_not_offered")
        return None

    def _open_envelope(self, mail: _Mail) -> None:
        if self._pipelines:
            self._write(b"".join(self._envelope(mail)))

    def _envelope(self, mail: _Mail) -> tuple[bytes, bytes, bytes]:
        size = f" SIZE={len(mail.data)}" if self._says_size else ""
        utf8 = " SMTPUTF8 BODY=8BITMIME" if mail.envelope.needs_utf8 else ""
        return (
            f"MAIL FROM:<{self._sender}>{size}{utf8}\r\n".encode(),
            f"RCPT TO:<{mail.envelope.address}>\r\n".encode(),
            b"DATA\r\n",
        )

    def _envelope_refusal(self, mail: _Mail) -> Result | None:
        """None when the server waits for the message; else what became of it, and the session is as before."""
        commands = self._envelope(mail)
        refused: tuple[str, Reply] | None = None
        for stage, command in zip(("mail", "rcpt", "data"), commands, strict=True):
            if not self._pipelines:
                self._write(command)
            reply = self._reply()
            if reply.code == 421:
                # Before a recipient was named it is about the server, and this message may go by another connection.
                raise _Broken("421", None if stage == "mail" else _result(mail, reply, stage))
            expected = 354 if stage == "data" else 250
            if reply.code != expected and not (stage == "rcpt" and reply.code == 251) and refused is None:
                refused = (stage, reply)
                if not self._pipelines:
                    break
            elif refused is not None and stage == "data" and reply.code == 354:
                # RFC 2920 3.1: it waits for a message without recipients, and gets an empty one.
                self._write(b".\r\n")
                self._reply()
        if refused is None:
            return None
        self._write(b"RSET\r\n")
        self._reply()
        stage, reply = refused
        return _result(mail, reply, stage)

    def _write_message(self, mail: _Mail, following: _Mail | None) -> None:
        end = b".\r\n" if mail.data.endswith(b"\r\n") else b"\r\n.\r\n"
        message = mail.data + end
        behind = b"".join(self._envelope(following)) if following is not None else b""
        whole = message + behind
        written = 0
        over_at = time.monotonic() + self._timeout_s + len(whole) / WRITE_BYTES_PER_S
        try:
            # sendall() would not say how much has left, and that decides what may be sent again.
            view = memoryview(whole)
            while written < len(whole):
                written += self._sock.send(view[written:])
                if written < len(whole) and time.monotonic() > over_at:
                    raise TimeoutError
        except OSError as error:
            broken = _unknown(mail, _word(error)) if written >= len(message) else _Broken(_word(error))
            raise broken from None

    def _write(self, data: bytes) -> None:
        try:
            self._sock.sendall(data)
        except OSError as error:
            raise _Broken(_word(error)) from None

    def _reply(self) -> Reply:
        """An answer, which is given up if it has not ended in time, a byte at a time or not."""
        lines: list[str] = []
        over_at = time.monotonic() + self._timeout_s
        while len(lines) < LINES_MAX:
            line = self._line(over_at)
            code, more = line[:3], line[3:4]
            if len(line) < 3 or not code.isdigit():
                raise _Broken("not_smtp")
            lines.append(line[4:].decode("utf-8", "replace"))
            if more != b"-":
                return Reply.read(int(code), lines[-1] if len(lines) == 1 else " ".join(lines))
        raise _Broken("not_smtp")

    def _line(self, over_at: float) -> bytes:
        while (end := self._buffer.find(b"\n")) < 0:
            if len(self._buffer) > LINE_BYTES_MAX:
                raise _Broken("not_smtp")
            if time.monotonic() > over_at:
                raise _Broken("operation_timedout")
            try:
                read = self._sock.recv(16_384)
            except OSError as error:
                raise _Broken(_word(error)) from None
            if not read:
                raise _Broken("connection_lost")
            self._buffer += read
        line = bytes(self._buffer[:end]).rstrip(b"\r")
        del self._buffer[: end + 1]
        return line


def sign_in_once(credential: SmtpCredential, endpoint: Endpoint) -> tuple[Outcome, str]:
    """Connect, encrypt, sign in and leave again: what came of it, and the server's own word or code if it refused."""
    try:
        connection = _Connection.open(credential, endpoint)
    except _NoConnection as obstacle:
        return obstacle.outcome, obstacle.reason
    try:
        return connection.noop()
    finally:
        connection.quit()


def _unknown(mail: _Mail, reason: str) -> _Broken:
    """The server may have read it whole, and taken it."""
    return _Broken(reason, Result(mail.message_id, Outcome.UNKNOWN, reason))


def _result(mail: _Mail, reply: Reply, stage: str) -> Result:
    if stage == "message" and reply.code == 250:
        return Result(mail.message_id, Outcome.ACCEPTED, provider_message_id=_queue_id(reply.text))
    verdict = smtp_verdict(reply, stage=stage)
    return Result(
        mail.message_id,
        verdict.outcome,
        reply.reason,
        reply.code,
        verdict.subscription_status,
        verdict.retry_after_s,
        soft_status=verdict.soft_status,
    )


_QUEUED = re.compile(r"queued as <?([A-Za-z0-9._-]{1,100})", re.IGNORECASE)


def _queue_id(text: str) -> str:
    found = _QUEUED.search(text)
    return found[1] if found else ""


def _word(error: OSError) -> str:
    return "operation_timedout" if isinstance(error, TimeoutError) else "connection_lost"


def _why_not(error: Exception) -> _NoConnection:
    """What follows from a connection that could not be made."""
    if isinstance(error, outgoing.OutgoingRefused):
        return _NoConnection(Outcome.CREDENTIAL, "host_refused")
    if isinstance(error, smtplib.SMTPAuthenticationError):
        is_busy = 400 <= error.smtp_code < 500
        return _NoConnection(Outcome.TRANSIENT if is_busy else Outcome.CREDENTIAL, str(error.smtp_code))
    if isinstance(error, smtplib.SMTPNotSupportedError):
        return _NoConnection(Outcome.CREDENTIAL, "auth_not_offered")
    if isinstance(error, ssl.SSLCertVerificationError):
        return _NoConnection(Outcome.CREDENTIAL, "certificate_invalid")
    if isinstance(error, smtplib.SMTPResponseException):
        is_busy = 400 <= error.smtp_code < 500
        return _NoConnection(Outcome.TRANSIENT if is_busy else Outcome.CREDENTIAL, str(error.smtp_code))
    return _NoConnection(Outcome.TRANSIENT, "couldnt_connect")
