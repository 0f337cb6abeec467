"""An e-mail's HTML for the sandboxed frame of a preview: nothing in it asks another host for anything.

The frame runs no script and submits no form (`sandbox`), and the page's content policy holds in it too. What is changed
here is what that policy would have to refuse: pictures of other hosts become a grey box of their size.
"""

from __future__ import annotations

import re
from html import escape, unescape
from urllib.parse import quote

from django.conf import settings

_BOX = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="600" height="200" viewBox="0 0 600 200"'
    ' preserveAspectRatio="none"><rect width="600" height="200" fill="#d1d5db"/>'
    '<path d="M0 200 L200 60 L330 150 L430 90 L600 200Z" fill="#9ca3af"/>'
    '<circle cx="470" cy="55" r="24" fill="#9ca3af"/></svg>'
)
PLACEHOLDER = f"data:image/svg+xml,{quote(_BOX)}"
_ATTRIBUTE = re.compile(
    r"""(?<![\w-])(src|srcset|background|poster)(\s*=\s*)("[^"]*"|'[^']*'|[^\s>"']+)""", re.IGNORECASE
)
_STYLE_URL = re.compile(r"""url\(\s*("[^")]*"|'[^')]*'|&quot;.*?&quot;|[^)"']*)\s*\)""", re.IGNORECASE | re.DOTALL)
_IMPORT = re.compile(r"@import[^;<]*;?", re.IGNORECASE)
_REFUSED = re.compile(
    r"<\s*/?\s*(?:link|base|meta|script|iframe|object|embed|form|frame|frameset)\b[^>]*>?", re.IGNORECASE
)
_HEAD = (
    '<!doctype html><html><head><base target="_blank"><style>'
    "body{{margin:0;overflow-wrap:anywhere}}img{{max-width:100%}}{}</style></head><body>{}</body></html>"
)


def framed_html(html: str) -> str:
    """The document for `srcdoc`: without other hosts' pictures, styles and fonts, and with links that lead nowhere."""
    html = _REFUSED.sub("", html)
    html = _IMPORT.sub("", html)
    html = _ATTRIBUTE.sub(_attribute, html)
    html = _STYLE_URL.sub(lambda found: f"url({_address(found[1].strip(chr(34) + chr(39)))})", html)
    return _HEAD.format("", html)


def framed_text(text: str) -> str:
    """A plain text as a document."""
    style = "body{padding:16px;font:14px/1.6 sans-serif;white-space:pre-wrap;color:#111827}"
    return _HEAD.format(style, escape(text))


def _attribute(found: re.Match[str]) -> str:
    name, sign, value = found[1].lower(), found[2], found[3].strip("\"'")
    if name == "srcset":
        return ""
    return f'{name}{sign}"{escape(_address(unescape(value)))}"'


def _address(address: str) -> str:
    """One of our own files, or a picture that the mail holds itself; else the grey box."""
    return local_address(address) or PLACEHOLDER


def local_address(address: str) -> str:
    """The address as this host has it, of one of our own files; empty for any other."""
    address = address.strip()
    if re.match(r"data:image/(?:png|jpe?g|gif|webp);base64,[A-Za-z0-9+/=\s]*$", address):
        return address
    own = settings.PUBLIC_URL.rstrip("/")
    path = address.removeprefix(own) if own and address.startswith(f"{own}/") else address
    return path if re.match(r"/m/[A-Za-z0-9._%-]+/[^\s\"'<>()\\]*$", path) else ""
