"""`manage.py citus_schema`: the SQL that turns the schema into one which Citus takes, distributed by application."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connection, transaction

from automata_signal.time_limits import limit_statements

DISTRIBUTED = (
    "messaging_message",
    "messaging_messageevent",
    "messaging_dispatch",
    "messaging_dispatchbatch",
    "messaging_followup",
    "messaging_inboxitem",
    "subscriptions_subscription",
    "subscriptions_subscriptionevent",
    "subscriptions_appuser",
    "subscriptions_preference",
    "subscriptions_marketingconsent",
    "subscriptions_consentevent",
    "subscriptions_suppression",
    "subscriptions_suppressionevent",
    "subscriptions_activehours",
    "campaigns_messagecampaign",
    "campaigns_campaignfailure",
    "campaigns_varianttally",
)
"""What grows with messages and people. What their foreign keys name beside each other (applications, templates) is
copied to every node; all else stays on the coordinator."""
KEY = "application_id"
APPLY_MAX_S = 6 * 3_600


class Command(BaseCommand):
    help = (
        "Prints the SQL that gives every primary, unique and foreign key of the distributed tables its application, "
        "as Citus demands, and then the calls of Citus that distribute them. --apply executes the first part, in one "
        "transaction that holds the tables for itself while indexes are built; plain PostgreSQL takes it too, and the "
        "platform runs on it. Safe to run again. Later migrations have to be written for these keys."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--apply", action="store_true", help="change the keys of this database")

    def handle(self, *args: Any, apply: bool, **options: Any) -> None:
        with transaction.atomic():
            statements = key_statements()
            if apply:
                limit_statements(APPLY_MAX_S)
                with connection.cursor() as cursor:
                    for statement in statements:
                        cursor.execute(statement)
                self.stdout.write(f"{len(statements)} statements were executed")
                return
            everything = ["BEGIN", *statements, "COMMIT", *distribution_statements()]
        self.stdout.write("\n".join(f"{statement};" for statement in everything))


# --- Keys ----------------------------------------------------------------------------------------------------------


class Constraint(NamedTuple):
    """A constraint of a table, with its columns in their order. `target` and `target_columns` are a foreign key's."""

    table: str
    name: str
    kind: str
    """p(rimary), u(nique) or f(oreign), as in `pg_constraint`."""
    columns: list[str]
    target: str
    target_columns: list[str]


def key_statements() -> list[str]:
    """What is to be changed, in an order in which it can be; nothing when the keys are as they should be.

    Raises `CommandError` for a unique index that is no constraint and lacks the application: what it means has to be
    thought about.
    """
    found = _constraints()
    _refuse_bare_unique_indexes()
    foreign = [c for c in found if c.kind == "f" and c.target in DISTRIBUTED and not _has_key(c)]
    keys = [c for c in found if c.kind in "pu" and c.table in DISTRIBUTED and not _has_key(c)]
    drops = [f"ALTER TABLE {c.table} DROP CONSTRAINT {c.name}" for c in (*foreign, *keys)]
    within = [c for c in foreign if c.table in DISTRIBUTED]  # a key from outside cannot be kept: it is dropped only
    return [*drops, *_new_keys(keys), *map(_new_foreign_key, within)]


def _has_key(constraint: Constraint) -> bool:
    """Whether the application is in it; for a foreign key, at the same place on both sides."""
    pairs = zip(constraint.columns, constraint.target_columns or constraint.columns, strict=True)
    return (KEY, KEY) in pairs


def _new_keys(keys: list[Constraint]) -> Iterator[str]:
    """Keys that begin with the application. A primary key takes the place of the list's index, and an index the place
    of the primary key, for what is looked up by id alone: the console, sweeps."""
    for key in keys:
        columns = ", ".join([KEY, *key.columns])
        kind = "PRIMARY KEY" if key.kind == "p" else "UNIQUE"
        yield f"ALTER TABLE {key.table} ADD CONSTRAINT {key.name} {kind} ({columns})"
        if key.kind == "p":
            for index in _indexes_on(key.table, [KEY, *key.columns]):
                yield f"DROP INDEX {index}"
            yield f"CREATE INDEX {key.table}_{'_'.join(key.columns)} ON {key.table} ({', '.join(key.columns)})"


def _new_foreign_key(key: Constraint) -> str:
    """Without an action, as all are here: Django itself cascades and sets null. A null id refers to nothing."""
    columns, target_columns = ", ".join([KEY, *key.columns]), ", ".join([KEY, *key.target_columns])
    return (
        f"ALTER TABLE {key.table} ADD CONSTRAINT {key.name} FOREIGN KEY ({columns})"
        f" REFERENCES {key.target} ({target_columns}) DEFERRABLE INITIALLY DEFERRED"
    )


_CONSTRAINTS = """
    SELECT c.conrelid::regclass::text, quote_ident(c.conname), c.contype::text,
           ARRAY(SELECT quote_ident(a.attname) FROM unnest(c.conkey) WITH ORDINALITY AS k (number, place)
                 JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.number ORDER BY place),
           CASE WHEN c.confrelid = 0 THEN '' ELSE c.confrelid::regclass::text END,
           ARRAY(SELECT quote_ident(a.attname) FROM unnest(c.confkey) WITH ORDINALITY AS k (number, place)
                 JOIN pg_attribute a ON a.attrelid = c.confrelid AND a.attnum = k.number ORDER BY place)
    FROM pg_constraint c JOIN pg_class t ON t.oid = c.conrelid
    WHERE c.contype IN ('p', 'u', 'f') AND c.conparentid = 0 AND NOT t.relispartition
      AND t.relnamespace = 'public'::regnamespace
    ORDER BY 1, 2
"""
_BARE_UNIQUE_INDEXES = """
    SELECT i.indexrelid::regclass::text FROM pg_index i
    WHERE i.indisunique AND i.indrelid = ANY(%s::regclass[])
      AND NOT EXISTS (SELECT FROM pg_constraint c WHERE c.conindid = i.indexrelid)
      AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = i.indrelid AND a.attname = %s
                      AND a.attnum = ANY((i.indkey::int2[])[0:i.indnkeyatts - 1]))
"""
_INDEXES_ON = """
    SELECT i.indexrelid::regclass::text FROM pg_index i
    WHERE i.indrelid = %s::regclass AND NOT i.indisunique AND i.indpred IS NULL AND i.indnatts = i.indnkeyatts
      AND ARRAY(SELECT a.attname::text FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k (number, place)
                JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number ORDER BY place) = %s::text[]
"""


def _rows(sql: str, parameters: list[Any] | None = None) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        rows: list[tuple[Any, ...]] = cursor.fetchall()
    return rows


def _constraints() -> list[Constraint]:
    return [Constraint(*row) for row in _rows(_CONSTRAINTS)]


def _indexes_on(table: str, columns: list[str]) -> list[str]:
    return [row[0] for row in _rows(_INDEXES_ON, [table, columns])]


def _refuse_bare_unique_indexes() -> None:
    if found := _rows(_BARE_UNIQUE_INDEXES, [list(DISTRIBUTED), KEY]):
        raise CommandError(f"A unique index lacks {KEY}: {', '.join(row[0] for row in found)}")


# --- Distribution --------------------------------------------------------------------------------------------------


def distribution_statements() -> list[str]:
    """The calls of Citus, once the keys are right; tables of a foreign key before those that it is of."""
    found = [c for c in _constraints() if c.kind == "f"]
    shared = _targets_first({c.target for c in found if c.table in DISTRIBUTED} - set(DISTRIBUTED), found)
    first, *others = _targets_first(set(DISTRIBUTED), found)
    return [
        "CREATE EXTENSION IF NOT EXISTS citus",
        *(f"SELECT create_reference_table('{table}')" for table in shared),
        f"SELECT create_distributed_table('{first}', '{KEY}')",
        *(f"SELECT create_distributed_table('{table}', '{KEY}', colocate_with => '{first}')" for table in others),
    ]


def _targets_first(tables: set[str], foreign: list[Constraint]) -> list[str]:
    """The tables, with those among them that a foreign key refers to before the table of the key."""
    ordered: list[str] = []

    def place(table: str) -> None:
        for key in foreign:
            if key.table == table and key.target in tables and key.target != table and key.target not in ordered:
                place(key.target)
        if table not in ordered:
            ordered.append(table)

    for table in sorted(tables):
        place(table)
    return ordered
