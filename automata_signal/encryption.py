"""AES-256-GCM fields: what is secret at rest is encrypted by us, under keys that can be rotated.

A stored value is one byte of key id, 12 bytes of nonce, then ciphertext and tag. The first key of
`ENCRYPTION_KEYS` encrypts; all of them decrypt, so a rotation is: put a new key in front, run
`manage.py rotate_encryption`, take the old key out.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import json
import os
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.db import models

NONCE_BYTES = 12


class DecryptionError(ValueError):
    """The value was encrypted under a key we do not have, or was altered."""


class Keyring:
    """The keys by id; the first encrypts."""

    def __init__(self, keys: dict[int, bytes]) -> None:
        if not keys:
            raise ImproperlyConfigured("ENCRYPTION_KEYS holds no key")
        self._ciphers = {key_id: AESGCM(key) for key_id, key in keys.items()}
        self.current_id = next(iter(keys))

    def encrypt(self, plaintext: bytes) -> bytes:
        nonce = os.urandom(NONCE_BYTES)
        return bytes((self.current_id,)) + nonce + self._ciphers[self.current_id].encrypt(nonce, plaintext, None)

    def decrypt(self, stored: bytes) -> bytes:
        """Raise `DecryptionError` if no key fits or the value was altered."""
        cipher = self._ciphers.get(stored[0]) if stored else None
        if cipher is None:
            raise DecryptionError(f"no key with id {stored[0] if stored else 'none'}")
        try:
            return cipher.decrypt(stored[1 : 1 + NONCE_BYTES], stored[1 + NONCE_BYTES :], None)
        except (InvalidTag, ValueError):  # a ValueError is a value too short to be one of ours
            raise DecryptionError("the stored value was altered or its key was replaced") from None

    def is_current(self, stored: bytes) -> bool:
        """Whether the value is already under the key that encrypts now."""
        return stored[:1] == bytes((self.current_id,))


@functools.cache
def keyring() -> Keyring:
    return Keyring(settings.ENCRYPTION_KEYS)


@functools.cache
def derived_key(purpose: str) -> bytes:
    """A key of its own for each keyed digest, from `TOKEN_DIGEST_KEY`."""
    return hmac.digest(settings.TOKEN_DIGEST_KEY, purpose.encode(), "sha256")


def keyed_digest(purpose: str, value: str) -> bytes:
    """HMAC-SHA256 of `value`: equal values are found without being readable."""
    return hmac.digest(derived_key(purpose), value.encode(), hashlib.sha256)


def _forget_keys(*, setting: str, **_: Any) -> None:
    if setting in ("ENCRYPTION_KEYS", "TOKEN_DIGEST_KEY"):
        keyring.cache_clear()
        derived_key.cache_clear()


setting_changed.connect(_forget_keys)


class EncryptedTextField(models.BinaryField):  # type: ignore[type-arg]  # not subscriptable when Django runs it
    """Text that is ciphertext in the database. It cannot be searched: keep a `keyed_digest` beside it."""

    description = "AES-256-GCM encrypted text"

    def get_db_prep_value(self, value: Any, connection: Any, prepared: bool = False) -> Any:
        if isinstance(value, str):
            value = keyring().encrypt(value.encode())
        return super().get_db_prep_value(value, connection, prepared)

    def from_db_value(self, value: Any, expression: Any, connection: Any) -> str | None:
        return None if value is None else keyring().decrypt(bytes(value)).decode()

    def to_python(self, value: Any) -> Any:
        return value

    def get_lookup(self, lookup_name: str) -> Any:
        """Only `isnull`: equal texts have different ciphertexts, so every other look-up would find nothing."""
        return super().get_lookup(lookup_name) if lookup_name == "isnull" else None

    def value_to_string(self, obj: models.Model) -> str:
        raise TypeError(f"{self.name} is encrypted and is not serialised")


class EncryptedJSONField(EncryptedTextField):
    """A JSON value that is ciphertext in the database."""

    description = "AES-256-GCM encrypted JSON"

    def get_db_prep_value(self, value: Any, connection: Any, prepared: bool = False) -> Any:
        if value is not None and not isinstance(value, bytes):
            value = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
        return super().get_db_prep_value(value, connection, prepared)

    def from_db_value(self, value: Any, expression: Any, connection: Any) -> Any:
        text = super().from_db_value(value, expression, connection)
        return None if text is None else json.loads(text)
