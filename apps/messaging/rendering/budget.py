"""How much one render may do: what filters, loops and output read and write, in characters and list elements.

minijinja counts instructions, but one instruction may read or print all of a long list or text.
"""

from __future__ import annotations

import threading
from typing import Final

from apps.messaging.rendering.errors import Refused

MAX_WORK: Final = 1_048_576
"""Stops `{% for a in range(9999) %}{{ big|escape }}{% endfor %}`: seconds and gigabytes of text."""


class _Budget(threading.local):
    left = MAX_WORK


_budget = _Budget()  # Of the render that runs in this thread.


def start() -> None:
    """Begins a render with nothing spent."""
    _budget.left = MAX_WORK


def spend(count: int) -> None:
    """Takes `count` from the render of this thread. Raises Refused when nothing is left."""
    _budget.left -= count
    if _budget.left < 0:
        raise Refused("the template does too much work")
