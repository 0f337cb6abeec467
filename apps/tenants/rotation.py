"""Bringing every encrypted value under the key that encrypts now, so that an old key can be taken out."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any, NamedTuple

from allauth.mfa.models import Authenticator
from django.apps import apps
from django.db import connection, transaction

from automata_signal.encryption import DecryptionError, EncryptedTextField, keyring

BATCH_SIZE = 1_000


class Rotated(NamedTuple):
    """What became of the values of one field that were not under the current key."""

    rotated: int = 0
    changed_meanwhile: int = 0
    """Somebody wrote the row at the same moment, which encrypts it under the key of that process."""
    unreadable: int = 0
    """Encrypted under a key that we do not have, or altered. They are left as they are."""

    def __add__(self, other: Any) -> Rotated:
        return Rotated(*(mine + its for mine, its in zip(self, other, strict=True)))


def encrypted_fields() -> Iterator[EncryptedTextField]:
    """Every encrypted column of every table, those of history included."""
    for model in apps.get_models():
        if model._meta.managed and not model._meta.proxy:
            yield from (field for field in model._meta.local_fields if isinstance(field, EncryptedTextField))


def rotate_field(field: EncryptedTextField, *, batch_size: int = BATCH_SIZE) -> Iterator[Rotated]:
    """Re-encrypt one column, a batch and a transaction at a time; yields the total so far after each batch.

    It can be stopped and started again at any point: what is under the current key already is passed over. It takes
    no locks beyond its own UPDATE, which leaves alone what has changed since it was read.
    """
    total, last = Rotated(), None
    while rows := _batch(field, last, batch_size):
        total += _rotate(field, rows)
        last = rows[-1][0]
        yield total


def rotate_second_factors() -> Rotated:
    """The same for the secrets of second factors, which django-allauth keeps as text in JSON."""
    total = Rotated()
    keys = Authenticator.objects.order_by("pk").values_list("pk", flat=True)
    for key in keys.iterator(chunk_size=BATCH_SIZE):
        with transaction.atomic():
            row = Authenticator.objects.select_for_update().filter(pk=key).first()
            if row is not None:
                total += _rotate_second_factor(row)
    return total


def _rotate_second_factor(row: Authenticator) -> Rotated:
    old = {name: base64.b64decode(row.data[name]) for name in ("secret", "seed") if row.data.get(name)}
    behind = {name: stored for name, stored in old.items() if not keyring().is_current(stored)}
    if not behind:
        return Rotated()
    try:
        plain = {name: keyring().decrypt(stored) for name, stored in behind.items()}
    except DecryptionError:
        return Rotated(unreadable=1)
    row.data |= {name: base64.b64encode(keyring().encrypt(value)).decode() for name, value in plain.items()}
    row.save(update_fields=["data"])
    return Rotated(1)


def _batch(field: EncryptedTextField, last: Any, size: int) -> list[tuple[Any, bytes]]:
    """The next values that are not under the current key, in the order of the primary key."""
    table, column, pk, _ = _names(field)
    after = "" if last is None else f"AND {pk} > %(last)s"
    statement = f"""
        SELECT {pk}, {column} FROM {table}
        WHERE substring({column} FROM 1 FOR 1) <> %(current)s {after}
        ORDER BY {pk} LIMIT %(size)s
    """
    with connection.cursor() as cursor:
        cursor.execute(statement, {"current": bytes((keyring().current_id,)), "last": last, "size": size})
        return [(key, bytes(stored)) for key, stored in cursor.fetchall()]


def _rotate(field: EncryptedTextField, rows: list[tuple[Any, bytes]]) -> Rotated:
    keys, old, new = [], [], []
    for key, stored in rows:
        try:
            plaintext = keyring().decrypt(stored)
        except DecryptionError:
            continue
        keys.append(key)
        old.append(stored)
        new.append(keyring().encrypt(plaintext))
    table, column, pk, pk_type = _names(field)
    statement = f"""
        UPDATE {table} AS stored SET {column} = value.new
        FROM unnest(%s::{pk_type}[], %s::bytea[], %s::bytea[]) AS value (pk, old, new)
        WHERE stored.{pk} = value.pk AND stored.{column} = value.old
    """
    with connection.cursor() as cursor:
        cursor.execute(statement, [keys, old, new])
        rotated = cursor.rowcount
    return Rotated(rotated, len(keys) - rotated, len(rows) - len(keys))


def _names(field: EncryptedTextField) -> tuple[str, str, str, str]:
    """Table, column and primary key, quoted, and the type of the key."""
    quote = connection.ops.quote_name
    pk = field.model._meta.pk
    assert field.column
    assert pk.column
    return quote(field.model._meta.db_table), quote(field.column), quote(pk.column), pk.rel_db_type(connection) or ""
