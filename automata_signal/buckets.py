"""A bucket in place of a folder: what `STORAGES` names when a `…_S3_BUCKET` is set (docs/operations.md).

Imported only then, since boto3 takes a tenth of a second and 20 MB.
"""

from __future__ import annotations

import io
from typing import Any

from botocore.exceptions import ClientError
from django.core.files.base import File
from storages.backends.s3 import S3Storage, clean_name

_BUFFER_BYTES = 64 * 1024


class BucketStorage(S3Storage):  # type: ignore[misc]  # without types
    """django-storages' for S3 and what speaks like it, with the manners of Django's folder."""

    def listdir(self, name: str) -> tuple[list[str], list[str]]:
        """Folders and files. FileNotFoundError where there is neither, as a folder has it."""
        folders, files = super().listdir(name)
        if not folders and not files:
            raise FileNotFoundError(name)
        return folders, [file for file in files if file != "."]

    def _open(self, name: str, mode: str = "rb") -> File[bytes]:
        """A file to be read from any position on, without fetching what lies before it or keeping it anywhere."""
        if mode != "rb":
            raise ValueError("files in a bucket are written by `save`")
        stored = self.bucket.Object(self._normalize_name(clean_name(name)))
        try:
            stored.load()
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
                raise FileNotFoundError(name) from error
            raise
        return File(io.BufferedReader(_Ranged(stored), _BUFFER_BYTES), name)


class _Ranged(io.RawIOBase):
    """Reads an object from where it was put; each `seek` is a new request, once something is read."""

    def __init__(self, stored: Any) -> None:
        self._stored = stored
        self._size: int = stored.content_length
        self._position = 0
        self._body: Any = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        if base + offset != self._position:
            self._drop()
            self._position = base + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        if self._position >= self._size:
            return 0
        if self._body is None:
            self._body = self._stored.get(Range=f"bytes={self._position}-", IfMatch=self._stored.e_tag)["Body"]
        piece: bytes = self._body.read(len(buffer))
        buffer[: len(piece)] = piece
        self._position += len(piece)
        return len(piece)

    def close(self) -> None:
        self._drop()
        super().close()

    def _drop(self) -> None:
        if self._body is not None:
            self._body.close()
            self._body = None
