"""Time limits of the present transaction, where those of the connection (`settings.DATABASES`) do not fit."""

from __future__ import annotations

from django.db import connection


def limit_statements(seconds: float) -> None:
    """Statements of this transaction may take so long: for the control queue, whose work is not a request's."""
    _set_local("statement_timeout", seconds)


def limit_lock_waits(seconds: float) -> None:
    """Wait so long for a lock, at most: everybody who comes later would wait behind us."""
    _set_local("lock_timeout", seconds)


def _set_local(name: str, seconds: float) -> None:
    if not connection.in_atomic_block:
        raise RuntimeError(f"{name} is set for a transaction, and there is none")
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config(%s, %s, true)", [name, f"{int(seconds * 1_000)}ms"])
