"""A mail server on a real socket that keeps what it takes, and refuses when it is told to."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage


@dataclass
class Mail:
    sender: str
    recipients: list[str]
    message: EmailMessage

    @property
    def parts(self) -> dict[str, EmailMessage]:
        """The parts by their type."""
        return {part.get_content_type(): part for part in self.message.walk()}


@dataclass
class Mailbox:
    port: int = 0
    mails: list[Mail] = field(default_factory=list)
    refuses: dict[str, str] = field(default_factory=dict)
    """Address → the answer to its RCPT TO; `*` for every address."""
    hangs_up: bool = False
    """Whether it closes each connection at once."""

    def to(self, address: str) -> list[Mail]:
        return [mail for mail in self.mails if address in mail.recipients]


class _Session(socketserver.StreamRequestHandler):
    server: _Server

    def handle(self) -> None:
        box = self.server.box
        if box.hangs_up:
            return
        self._say("220 mailbox")
        sender, recipients = "", []
        while line := self.rfile.readline():
            verb, _, rest = line.decode().strip().partition(" ")
            match verb.upper():
                case "EHLO" | "HELO":
                    self._say("250 mailbox")
                case "MAIL":
                    sender, recipients = _address(rest), []
                    self._say("250 ok")
                case "RCPT":
                    refusal = box.refuses.get(_address(rest)) or box.refuses.get("*")
                    if refusal is None:
                        recipients.append(_address(rest))
                    self._say(refusal or "250 ok")
                case "DATA":
                    self._say("354 go on")
                    box.mails.append(Mail(sender, recipients, self._message()))
                    self._say("250 taken")
                case "QUIT":
                    self._say("221 bye")
                    return
                case _:
                    self._say("250 ok")

    def _say(self, line: str) -> None:
        self.wfile.write(f"{line}\r\n".encode())

    def _message(self) -> EmailMessage:
        lines = []
        while (line := self.rfile.readline()) != b".\r\n":
            lines.append(line[1:] if line.startswith(b"..") else line)
        message = message_from_bytes(b"".join(lines), policy=policy.default)
        assert isinstance(message, EmailMessage)
        return message


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    box: Mailbox


def _address(text: str) -> str:
    return text.partition("<")[2].partition(">")[0]


@contextmanager
def mailbox() -> Iterator[Mailbox]:
    """A server on a free port of this machine, until the end of the block."""
    with _Server(("127.0.0.1", 0), _Session) as server:
        server.box = Mailbox(port=server.server_address[1])
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server.box
        finally:
            server.shutdown()
            thread.join()
