"""Bodies with files: bounded before a byte of them is read, and never wholly in memory."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.exceptions import RequestDataTooBig, TooManyFieldsSent, TooManyFilesSent
from django.core.files.uploadedfile import UploadedFile
from django.core.files.uploadhandler import FileUploadHandler
from rest_framework import exceptions
from rest_framework.parsers import DataAndFiles, MultiPartParser

from automata_signal.errors import PayloadTooLarge, ValidationFailed

_AROUND_BYTES = 1024 * 1024
"""For the other fields of the form and what stands between them."""


class LargestUpload(FileUploadHandler):
    """Refuses a body that is larger than any file we take. The first handler, so that nothing is kept of it."""

    def handle_raw_input(self, input_data: Any, META: Any, content_length: int, *args: Any, **kwargs: Any) -> None:
        if content_length > settings.IMPORT_FILE_MAX_BYTES + _AROUND_BYTES:
            raise RequestDataTooBig(f"The body is larger than {settings.IMPORT_FILE_MAX_BYTES} bytes.")

    def receive_data_chunk(self, raw_data: bytes, start: int) -> bytes:
        return raw_data

    def file_complete(self, file_size: int) -> UploadedFile[bytes] | None:
        return None


class UploadParser(MultiPartParser):
    """`multipart/form-data`: each field once, one file. Larger files go to a temporary one on disk as they come."""

    def parse(self, stream: Any, media_type: Any = None, parser_context: Any = None) -> DataAndFiles[Any, Any]:
        try:
            parsed = super().parse(stream, media_type, parser_context)
        except RequestDataTooBig as error:
            raise PayloadTooLarge(str(error)) from None
        except (TooManyFieldsSent, TooManyFilesSent, exceptions.ParseError, ValueError) as error:
            raise ValidationFailed(f"The body is not valid multipart/form-data: {error}") from None
        for name, values in [*parsed.data.lists(), *parsed.files.lists()]:
            if len(values) > 1:
                raise ValidationFailed.of(name[:200], "is given more than once")
        return parsed
