"""Files with personal data, encrypted at rest: uploads and exports in the private storage (`PRIVATE_FILES_DIR`).

A sealed file is a row of frames; each holds `FRAME_BYTES` of the plain file (the last one less) as `encryption.Keyring`
writes them. A position in the plain file says which frame it is in, so that reading can go on anywhere. Memory is one
frame, whatever the size. A key may leave `ENCRYPTION_KEYS` when the files under it are gone: they live for days.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from typing import IO, Any
from uuid import UUID

from django.core.files.base import File
from django.core.files.storage import Storage, storages
from django.utils import timezone

from automata_signal.encryption import NONCE_BYTES, keyring

FRAME_BYTES = 1024 * 1024
UNNAMED_AFTER = timedelta(days=1)
"""So long a file may be there before its row tells of it."""
_SEALED_FRAME_BYTES = 1 + NONCE_BYTES + FRAME_BYTES + 16  # key id, nonce, ciphertext, tag


def private_storage() -> Storage:
    """Where these files are. Every process that writes or reads them needs to reach it."""
    return storages["private"]


def save_sealed(name: str, chunks: Iterable[bytes]) -> str:
    """Store `chunks`, whatever their sizes, encrypted; answers with the name that they have in the storage.

    If `chunks` raises, nothing is left behind.
    """
    try:
        return private_storage().save(name, _Chunks(_sealed(chunks)))
    except BaseException:
        delete_file(name)
        raise


def open_sealed(name: str, *, offset: int = 0) -> io.BufferedReader[Any]:
    """The plain bytes from `offset` on; `tell` counts from there. Raises FileNotFoundError; when read,
    `encryption.DecryptionError`."""
    frame, skip = divmod(offset, FRAME_BYTES)
    stored = private_storage().open(name, "rb")
    stored.seek(frame * _SEALED_FRAME_BYTES)
    reader = io.BufferedReader(_Unsealed(stored), FRAME_BYTES)
    reader.read(skip)
    return reader


def read_sealed(name: str) -> Iterator[bytes]:
    """The plain file, frame by frame: for a download."""
    with open_sealed(name) as file:
        while chunk := file.read(FRAME_BYTES):
            yield chunk


def delete_file(name: str) -> None:
    """Remove a file; one that is not there is fine."""
    if name:
        private_storage().delete(name)


def delete_unnamed(folder: str, names_of: Callable[[list[UUID]], Iterable[str]]) -> int:
    """Delete the files of `folder` that are older than a day and that no row names any more: the process ended between
    the row and the file. A file's name begins with the key of its row; `names_of` answers for some keys with the names
    that their rows still have. Returns how many there were."""
    storage, before = private_storage(), timezone.now() - UNNAMED_AFTER
    try:
        files = storage.listdir(folder)[1]
    except FileNotFoundError:
        return 0
    keys = {f"{folder}/{name}": key for name in files if (key := key_in(name)) is not None}
    old = [name for name in keys if storage.get_modified_time(name) < before]
    unnamed = set(old) - set(names_of([keys[name] for name in old])) if old else set()
    for name in unnamed:
        delete_file(name)
    return len(unnamed)


def key_in(name: str) -> UUID | None:
    """The key that a file's name begins with."""
    found = re.match(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", name)
    return UUID(found[0]) if found else None


def _sealed(chunks: Iterable[bytes]) -> Iterator[bytes]:
    ring, held = keyring(), bytearray()
    for chunk in chunks:
        held += chunk
        while len(held) >= FRAME_BYTES:
            yield ring.encrypt(bytes(held[:FRAME_BYTES]))
            del held[:FRAME_BYTES]
    if held:
        yield ring.encrypt(bytes(held))


class _Chunks(File):  # type: ignore[type-arg]  # not subscriptable when Django runs it
    """What `Storage.save` takes: a file that can be read once, and whose size nobody knows yet. A folder takes its
    chunks; a bucket reads it."""

    def __init__(self, parts: Iterator[bytes]) -> None:
        super().__init__(None)
        self._parts = parts
        self._held = bytearray()

    def chunks(self, chunk_size: int | None = None) -> Iterator[bytes]:
        return self._parts

    def read(self, size: int = -1) -> bytes:
        while size < 0 or len(self._held) < size:
            part = next(self._parts, None)
            if part is None:
                break
            self._held += part
        end = len(self._held) if size < 0 else size
        taken = bytes(self._held[:end])
        del self._held[:end]
        return taken

    def seek(self, offset: int, whence: int = 0) -> int:
        if offset or whence:
            raise io.UnsupportedOperation("it is read once, from its beginning")
        return 0

    def seekable(self) -> bool:
        return False


class _Unsealed(io.RawIOBase):
    """Decrypts frame by frame."""

    def __init__(self, stored: IO[Any]) -> None:
        self._stored = stored
        self._held = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._held:
            frame = self._stored.read(_SEALED_FRAME_BYTES)
            if not frame:
                return 0
            self._held = memoryview(keyring().decrypt(frame))
        size = min(len(buffer), len(self._held))
        buffer[:size] = self._held[:size]
        self._held = self._held[size:]
        return size

    def close(self) -> None:
        if not self.closed:
            self._stored.close()
        super().close()
