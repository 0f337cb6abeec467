"""What a provider says of a credential when it is asked: the words that adapters answer in and the console shows.

An adapter asks, the console stores and shows; neither may import the other, so what both speak of stands here.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

from django.utils.translation import gettext_lazy as _

from automata_signal.secret_fields import Text

WORD_MAX, ABOUT_MAX = 120, 200


class Finding(enum.Enum):
    """What a check has found out."""

    WORKS = "works"
    WORKS_IN_PART = "works_in_part"
    """The key is good and may send, but may not be asked about more."""
    KEY_REFUSED = "key_refused"
    SENDER_REFUSED = "sender_refused"
    """The key is good; the app, domain or number to send as is not this account's."""
    NOT_ALLOWED = "not_allowed"
    """The account or key exists and may not send."""
    BUSY = "busy"
    NO_ANSWER = "no_answer"
    UNREADABLE = "unreadable"
    """Of our own: the stored secret cannot be decrypted any more."""
    UNCLEAR = "unclear"

    @property
    def ok(self) -> bool | None:
        """True: it can be sent with. None: that could not be found out."""
        if self in (Finding.WORKS, Finding.WORKS_IN_PART):
            return True
        return None if self in (Finding.BUSY, Finding.NO_ANSWER, Finding.UNCLEAR) else False


FINDINGS: dict[Finding, Text] = {
    Finding.WORKS: _("The provider takes this credential."),
    Finding.WORKS_IN_PART: _("The provider takes this credential. It may send, but not be asked about its account."),
    Finding.KEY_REFUSED: _("The provider refuses the key. Compare its ids, or make a new key there and enter it here."),
    Finding.SENDER_REFUSED: _(
        "The key is good, but what it is to send as does not belong to it: compare the app, domain or number."
    ),
    Finding.NOT_ALLOWED: _("The provider knows the key and does not let it send. Look at its rights and its account."),
    Finding.BUSY: _("The provider asks us to wait. Check again in a minute."),
    Finding.NO_ANSWER: _("The provider did not answer. Check again later; if others work, compare the address."),
    Finding.UNREADABLE: _("What is stored cannot be decrypted any more: enter the key again."),
    Finding.UNCLEAR: _("The provider answered something unexpected, which says nothing about the key."),
}


class Verified(NamedTuple):
    """What a provider said of a secret."""

    finding: Finding
    word: str = ""
    """The provider's own: `InvalidProviderToken`."""
    about: str = ""
    """What it was about, or what else it told: an environment, a sender, the account's name. Never a secret."""

    def packed(self) -> str:
        """In one line, to be stored."""
        parts = (self.finding.value, self.word[:WORD_MAX], self.about[:ABOUT_MAX])
        return "|".join(part.replace("|", "/").replace("\0", "") for part in parts)

    @classmethod
    def unpacked(cls, text: str) -> Verified | None:
        """What `packed` made; None for what it did not."""
        name, _, rest = text.partition("|")
        word, _, about = rest.partition("|")
        try:
            return cls(Finding(name), word, about)
        except ValueError:
            return None
