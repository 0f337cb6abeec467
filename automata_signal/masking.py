"""Text without what is secret or says who a person is: for logs and error reports, whatever wrote it.

Our own lines name ids only. This is for what others say: PostgreSQL quotes the values of a violated constraint, a
library the address that it called.
"""

from __future__ import annotations

import re

MASK = "…"
READ_MAX = 8_192
"""Characters that are looked at. What is longer, as a made-up path, is cut: it would hold up everybody."""

_RULES: tuple[tuple[re.Pattern[str], str], ...] = (
    # PostgreSQL: "DETAIL:  Key (external_id)=(kim@example.com) already exists.", "CONTEXT:  COPY …, column token: …"
    (re.compile(r"^((?:DETAIL|CONTEXT|HINT|QUERY):).*$", re.MULTILINE), rf"\1 {MASK}"),
    (re.compile(r"=\([^()\n]*\)"), f"=({MASK})"),
    (re.compile(r"\bas_(sk|pk)_[\w-]+"), rf"as_\1_{MASK}"),
    (re.compile(r"\b(bearer|basic|token|key)\s+[\w.~+/=-]{16,}", re.IGNORECASE), rf"\1 {MASK}"),
    (re.compile(r"\beyJ[\w-]+\.[\w-]+(?:\.[\w-]*)?"), MASK),  # a JWT
    (re.compile(r"-----BEGIN [^-]+-----.*?(?:-----END [^-]+-----|\Z)", re.DOTALL), MASK),
    (re.compile(r"(://)[^/\s@]*@"), rf"\1{MASK}@"),  # user and password of an address
    (re.compile(r"(https?://[^\s?#\"']+)\?[^\s\"']*"), rf"\1?{MASK}"),
    (re.compile(r"(?<![\w.%+'-])[\w.%+'-]{1,128}@[\w-]+(?:\.[\w-]+)+"), MASK),  # e-mail
    (re.compile(r"(/e/[a-z]{1,20}/)[\w-]{40,}"), rf"\1{MASK}"),  # what a link in a message may do (`link_tokens`)
    (re.compile(r"(/m/[0-9a-f]{32}\.[a-z_]{0,20}\.[0-9a-f]{0,12}\.)[\w-]{22}"), rf"\1{MASK}"),  # … a file's address
    (re.compile(r"(/account/invitation/)[\w-]{20,}"), rf"\1{MASK}"),  # who has it becomes a member
    (re.compile(r"\b(whsec|tk)_[\w-]{20,}"), rf"\1_{MASK}"),  # the secret of a webhook, the ticket for a stream
    (re.compile(r"[\w-]{8,64}:[\w-]{60,}"), MASK),  # a registration token of FCM
    (re.compile(r"(?<![\w-])[0-9A-Fa-f]{64,}(?![\w-])"), MASK),  # a device token of APNs
    (re.compile(r"(?<![\w.-])(?:\+|%2B)\d[\d ().-]{6,18}\d(?![\w-])"), MASK),  # a telephone number, with its country
    (re.compile(r"(?<![\w.:-])0\d{1,2}[ -]?\d{3,4}[ -]?\d{4}(?![\w:-])"), MASK),  # … and without
)


def masked(text: str) -> str:
    """`text` with keys, tokens, addresses and numbers of people, and the values PostgreSQL quotes, as `…`."""
    if len(text) > READ_MAX:
        text = f"{text[:READ_MAX]}{MASK}"
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)
    return text
