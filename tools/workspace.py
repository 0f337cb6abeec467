"""Where runs keep their files, and how runs at the same time stay out of each other's way.

Everything lies under `.local/` of the checkout, but for sockets (their paths must be short) and for data of a server
that runs as a user who cannot enter the checkout.
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import json
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Self

from tools.supervisor import ROOT, StackError

LOCAL = ROOT / ".local"
CHECKOUT_ID = hashlib.sha256(str(ROOT).encode()).hexdigest()[:8]


def private_dir(path: Path) -> Path:
    """Make a folder that only we can enter; StackError if one is there that is another's, open or a link."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = path.lstat()
    except OSError as error:
        raise StackError(f"{path} cannot be made: {error.strerror}") from error
    is_private = stat.S_ISDIR(found.st_mode) and not stat.S_IMODE(found.st_mode) & 0o077
    if not is_private or found.st_uid != os.geteuid():
        raise StackError(f"{path} is not a private folder of ours: remove it, or see who made it")
    return path


def write_private(path: Path, content: dict[str, Any]) -> None:
    """Write JSON that only we can read; a reader sees the old content or the new, never half."""
    private_dir(path.parent)
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    draft.touch(mode=0o600)
    draft.write_text(json.dumps(content, indent=2))
    draft.replace(path)


def stored_secrets(path: Path) -> dict[str, str]:
    """The secrets of a stack whose data stays, made on its first start: without the same keys it is unreadable."""
    try:
        stored: dict[str, str] = json.loads(path.read_text())
    except FileNotFoundError:
        stored = new_secrets()
        write_private(path, stored)
    except ValueError as error:
        raise StackError(f"{path} is damaged; without it the stored data cannot be read: {error}") from error
    return stored


def new_secrets() -> dict[str, str]:
    """Values for the secrets that the settings read."""

    def key() -> str:
        return base64.b64encode(secrets.token_bytes(32)).decode()

    return {"SECRET_KEY": secrets.token_urlsafe(48), "ENCRYPTION_KEYS": f"1:{key()}", "TOKEN_DIGEST_KEY": key()}


@dataclass
class Lease:
    """The exclusive right to a name in this checkout. It ends with `release`, or with the process that holds it."""

    path: Path
    file: IO[str]

    @classmethod
    def try_acquire(cls, name: str) -> Self | None:
        path = private_dir(LOCAL / "leases") / name
        file = path.open("a")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return None
        return cls(path, file)

    @classmethod
    def acquire(cls, name: str, *, or_else: str) -> Self:
        lease = cls.try_acquire(name)
        if lease is None:
            raise StackError(or_else)
        return lease

    def release(self) -> None:
        self.file.close()

    def remove(self) -> None:
        """Release a name that nobody will ask for again."""
        self.path.unlink(missing_ok=True)
        self.release()


@contextmanager
def shared_use(name: str) -> Iterator[None]:
    """While inside, `wait_for_users(name)` of another process waits."""
    with (private_dir(LOCAL / "leases") / f"{name}.users").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        yield


@contextmanager
def wait_for_users(name: str) -> Iterator[None]:
    """Enter when nobody shares the name any more, and let nobody in meanwhile."""
    with (private_dir(LOCAL / "leases") / f"{name}.users").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def abandoned_leases(prefix: str) -> Iterator[str]:
    """Names of leases whose holders could not clean up (a power cut); each is removed after the caller has seen it."""
    for path in (LOCAL / "leases").glob(f"{prefix}*"):
        lease = Lease.try_acquire(path.name)
        if lease is None:
            continue
        yield path.name
        path.unlink(missing_ok=True)
        lease.release()
