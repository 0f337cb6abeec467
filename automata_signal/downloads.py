"""Files for people: a signed link that expires opens one file, without a session and without a key.

What hands out files registers an opener for its kind; the opener looks at its row each time, so that what was deleted
is gone although its link still stands. The token goes in the query, which no log has (`request_logs`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple
from urllib.parse import urlencode
from uuid import UUID

from django.conf import settings
from django.core.signing import BadSignature, Signer
from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.utils.http import content_disposition_header
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

PATH = "downloads"
TOKEN_MAX_CHARS = 500
_SALT = "automata_signal.downloads"


@dataclass(frozen=True)
class Download:
    """A file to hand out. `chunks` are read one by one while they are sent, so memory stays flat."""

    file_name: str
    content_type: str
    chunks: Iterable[bytes]
    size_bytes: int | None = None


class DownloadLink(NamedTuple):
    url: str
    expires_at: datetime


Opener = Callable[[UUID], Download | None]
"""Gets the key that the link was made for; None if there is no such file (any more)."""
_openers: dict[str, Opener] = {}


def register_download(kind: str, opener: Opener) -> None:
    """Let `opener` answer links of this kind; called at start-up (`AppConfig.ready`)."""
    if _openers.setdefault(kind, opener) is not opener:
        raise ValueError(f"there is an opener for {kind!r} already")


def download_link(kind: str, key: UUID, *, valid_s: int | None = None) -> DownloadLink:
    """A link that opens the file for `valid_s` seconds (`DOWNLOAD_LINK_S` unless told) to whoever has it."""
    if kind not in _openers:
        raise ValueError(f"there is no opener for {kind!r}")
    expires = int(time.time()) + (settings.DOWNLOAD_LINK_S if valid_s is None else valid_s)
    token = Signer(salt=_SALT).sign_object([kind, str(key), expires])
    url = f"{settings.PUBLIC_URL.rstrip('/')}/{PATH}?{urlencode({'token': token})}"
    return DownloadLink(url, datetime.fromtimestamp(expires, UTC))


@require_safe
def download(request: HttpRequest) -> HttpResponseBase:
    """The file that `?token=` names. 404 for what we never signed and what is gone, 410 for a link that has expired."""
    token = request.GET.get("token", "")
    try:
        kind, key, expires = Signer(salt=_SALT).unsign_object(token[: TOKEN_MAX_CHARS + 1])
    except (BadSignature, ValueError):
        return _refusal(404, _("There is no such file."))
    if time.time() >= expires:
        return _refusal(410, _("This link has expired. Ask for a new one where you got it."))
    opener = _openers.get(kind)
    file = opener(UUID(key)) if opener is not None else None
    if file is None:
        return _refusal(404, _("There is no such file."))
    response = StreamingHttpResponse(file.chunks, content_type=file.content_type)
    response["Content-Disposition"] = content_disposition_header(True, file.file_name) or "attachment"
    response["Content-Security-Policy"] = "sandbox"
    if file.size_bytes is not None:
        response["Content-Length"] = str(file.size_bytes)
    return _private(response)


def _refusal(status: int, message: str) -> HttpResponseBase:
    return _private(HttpResponse(message + "\n", status=status, content_type="text/plain; charset=utf-8"))


def _private(response: HttpResponseBase) -> HttpResponseBase:
    """Kept by nobody on the way, and the link is told to nobody."""
    response["Cache-Control"] = "private, no-store"
    response["Referrer-Policy"] = "no-referrer"
    return response
