"""`/m/<token>/<name>`: a media file for whoever has its address, such as the reader of an e-mail."""

from __future__ import annotations

import time

from django.http import HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect
from django.utils.http import content_disposition_header
from django.views.decorators.http import require_safe

from apps.messaging.media.addresses import AddressExpired, AddressRefused, read_address
from apps.messaging.media.selectors import Servable, media_open
from apps.messaging.media.storing import PRESIGNED_S, presigned_url, read

KEPT_S = 86_400
"""How long browsers and image proxies may keep a file; after its deletion as well."""


@require_safe
def media_file(request: HttpRequest, token: str, name: str) -> HttpResponseBase:
    """The file of an address. `name` is for people: it decides nothing. 404 for what we never signed and what is gone,
    410 for an address whose time is over."""
    try:
        address = read_address(token)
    except AddressExpired:
        return _refusal(410)
    except AddressRefused:
        return _refusal(404)
    file = media_open(address.media_id, address.variant)
    if file is None:
        return _refusal(404)
    left_s = KEPT_S if address.expires_at is None else max(0, min(KEPT_S, address.expires_at - int(time.time())))
    response = _response(request, file, left_s)
    response["Cross-Origin-Resource-Policy"] = "cross-origin"
    response["Referrer-Policy"] = "no-referrer"
    response["X-Content-Type-Options"] = "nosniff"
    return response


def _response(request: HttpRequest, file: Servable, left_s: int) -> HttpResponseBase:
    there = presigned_url(
        file.stored_as, content_type=file.content_type, file_name=file.file_name, is_shown=file.is_image
    )
    if there is not None:
        redirect = HttpResponseRedirect(there)
        redirect["Cache-Control"] = f"private, max-age={min(left_s, PRESIGNED_S // 2)}"
        return redirect
    tag = f'"{file.sha256[:32]}"'
    if request.headers.get("If-None-Match") == tag:
        return _kept(HttpResponse(status=304), tag, left_s)
    try:
        # In one piece: a stream keeps one of the web's few threads until its reader has it all, and anybody may read a
        # byte a minute. Files are small (`MEDIA_ATTACHMENT_MAX_BYTES`).
        content = b"" if request.method == "HEAD" else read(file.stored_as)
    except FileNotFoundError:
        return _refusal(404)
    response = HttpResponse(content, content_type=file.content_type)
    response["Content-Length"] = str(file.file_bytes)
    response["Content-Disposition"] = content_disposition_header(not file.is_image, file.file_name) or "inline"
    response["Content-Security-Policy"] = "default-src 'none'; sandbox"
    response["Accept-Ranges"] = "none"
    return _kept(response, tag, left_s)


def _kept(response: HttpResponseBase, tag: str, left_s: int) -> HttpResponseBase:
    response["ETag"] = tag
    response["Cache-Control"] = f"public, max-age={left_s}"
    return response


def _refusal(status: int) -> HttpResponseBase:
    text = "This address has expired.\n" if status == 410 else "There is no such file.\n"
    response = HttpResponse(text, status=status, content_type="text/plain; charset=utf-8")
    response["Cache-Control"] = "no-store"
    return response
