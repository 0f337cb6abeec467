"""`manage.py rotate_encryption`: everything encrypted comes under the first key of `ENCRYPTION_KEYS`."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from apps.tenants.rotation import BATCH_SIZE, Rotated, encrypted_fields, rotate_field, rotate_second_factors
from automata_signal.encryption import keyring


class Command(BaseCommand):
    help = (
        "Re-encrypt every stored secret under the first key of ENCRYPTION_KEYS, in batches. It can be stopped and "
        "started again. Put the new key in front, restart every process, run this, then take the old key out."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--batch-size", type=int, default=BATCH_SIZE)

    def handle(self, *args: Any, batch_size: int, **options: Any) -> None:
        self.stdout.write(f"Encrypting under key {keyring().current_id}")
        total = Rotated()
        for field in encrypted_fields():
            done = Rotated()
            for done in rotate_field(field, batch_size=max(1, batch_size)):
                if options["verbosity"] > 1:
                    self.stdout.write(f"  {field}: {done.rotated} …")
            self.stdout.write(
                f"{field}: {done.rotated} rotated, {done.changed_meanwhile} changed meanwhile, "
                f"{done.unreadable} unreadable"
            )
            total += done
        done = rotate_second_factors()
        self.stdout.write(f"second factors: {done.rotated} rotated, {done.unreadable} unreadable")
        total += done
        if total.unreadable:
            raise CommandError(f"{total.unreadable} values cannot be read with these keys: keep the old keys.")
        if total.changed_meanwhile:
            self.stdout.write("Some rows were written at the same time: run the command once more.")
