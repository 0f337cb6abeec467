"""`./run messages`: the catalogue of Korean words follows the code.

Every text that the console asks gettext for is looked up: in our Python and templates, in the names of models' fields,
and in those third-party pages that operators see and that have no Korean of their own. New ones are added to
`locale/ko/LC_MESSAGES/django.po` without a translation, those that nobody asks for any more are dropped, the rest stays
as it is, and so does the glossary at the top; then `django.mo` is compiled, and what is missing is listed. Neither file
says where a text stands nor when it was written, so that a difference shows words and nothing else. Needs no gettext of
the machine.
"""

from __future__ import annotations

import ast
import gettext
import io
import itertools
import os
import re
import struct
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import django
from babel.messages.catalog import Catalog, Message
from babel.messages.extract import extract
from babel.messages.pofile import read_po, write_po
from django.apps import apps
from django.utils import translation
from django.utils.translation.template import templatize

from automata_signal.refusals import CONTEXT

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = Path(django.__file__).parent.parent
PO = ROOT / "locale" / "ko" / "LC_MESSAGES" / "django.po"
MO = PO.with_suffix(".mo")
OURS = ("apps", "automata_signal", "templates")
THEIRS = (
    *("unfold", "axes", "simple_history", "import_export", "django_celery_beat", "django_fsm", "djmoney"),
    *("rest_framework_simplejwt/token_blacklist", "allauth/account", "allauth/mfa", "allauth/usersessions"),
    *("django/contrib/admin", "django/contrib/auth", "django/core", "django/forms", "django/db/models", "django/views"),
)
"""Packages of others whose words operators may see. What they say in Korean themselves is left to them."""
NOT_SEEN = (
    *("unfold/contrib/constance", "unfold/contrib/guardian", "unfold/contrib/location_field", "unfold_crispy"),
    *("allauth/mfa/webauthn", "management", "migrations", "tests", "admindocs", "test"),
)
KEYWORDS: dict[str, Any] = {
    **dict.fromkeys(("gettext", "gettext_lazy", "gettext_noop", "_")),
    **dict.fromkeys(("ngettext", "ngettext_lazy"), (1, 2)),
    **dict.fromkeys(("pgettext", "pgettext_lazy"), ((1, "c"), 2)),
    **dict.fromkeys(("npgettext", "npgettext_lazy"), ((1, "c"), 2, 3)),
}


class Text(NamedTuple):
    """What gettext is asked for."""

    singular: str
    plural: str = ""
    context: str = ""

    @property
    def asked(self) -> str:
        """The key in a compiled catalogue, without the plural: gettext looks it up by the singular."""
        return f"{self.context}\x04{self.singular}" if self.context else self.singular


# --- What is asked for -------------------------------------------------------------------------------------------


def texts_asked() -> set[Text]:
    """Every text that the console asks for and that nobody else has in Korean."""
    ours = {text for name in OURS for text in texts_of_folder(ROOT / name)} | set(names_of_fields()) | set(refusals())
    known = korean_of_others()
    theirs = {text for text in texts_of_others() if text.asked not in known}
    return merged(ours | theirs)


def merged(texts: Iterable[Text]) -> set[Text]:
    """One for each key: a text that is asked for with a plural as well as without has one entry, with the plural."""
    by_key: dict[str, Text] = {}
    for text in sorted(texts):
        by_key[text.asked] = text if text.plural or text.asked not in by_key else by_key[text.asked]
    return {text for text in by_key.values() if text.singular.strip()}


def texts_of_others() -> Iterator[Text]:
    for name in THEIRS:
        for text, path in _texts_by_file(PACKAGES / name):
            relative = f"/{path.relative_to(PACKAGES).as_posix()}"
            if not any(f"/{part}/" in relative for part in NOT_SEEN):
                yield text


def texts_of_folder(folder: Path) -> Iterator[Text]:
    return (text for text, _ in _texts_by_file(folder))


def _texts_by_file(folder: Path) -> Iterator[tuple[Text, Path]]:
    for path in sorted(folder.rglob("*")):
        if path.suffix == ".py":
            yield from ((text, path) for text in texts_of_python(path.read_bytes()))
        elif path.suffix in (".html", ".txt") and "templates" in path.parts:
            yield from ((text, path) for text in texts_of_template(path.read_text()))


def texts_of_python(source: bytes) -> Iterator[Text]:
    for _, found, _, context in extract("python", io.BytesIO(source), KEYWORDS):
        parts = (found,) if isinstance(found, str) else tuple(found)
        yield Text(*map(str, parts), **({"context": context} if context else {}))


_LITERAL = r"""u?(?:'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*")"""
_CALL = re.compile(rf"\b(n?p?gettext|_)\(({_LITERAL}(?:, {_LITERAL})*)")


def texts_of_template(source: str) -> Iterator[Text]:
    """By Django's own reading of the tags, so that they are the very texts that it looks up."""
    for function, arguments in _CALL.findall(templatize(source)):
        parts = list(ast.literal_eval(f"[{arguments}]"))
        context = parts.pop(0) if "pgettext" in function else ""
        yield Text(*parts, **({"context": context} if context else {}))


def names_of_fields() -> Iterator[Text]:
    """Names that Django makes of attributes' (`created_at` → "created at"), which the console has translated."""
    from apps.tenants.console.apps import fields_with_made_names, models_with_made_names

    with translation.override("en"):
        yield from {Text(str(field.verbose_name)) for field in fields_with_made_names()}
        for model in models_with_made_names():
            yield from (Text(str(model._meta.verbose_name)), Text(str(model._meta.verbose_name_plural)))


REFUSALS = {
    **dict.fromkeys(("Conflict", "NotFound", "Forbidden", "PayloadTooLarge", "Unavailable", "ValidationFailed"), 0),
    **dict.fromkeys(("CreditExhausted", "QuotaExceeded", "UnreadableFile", "Misplaced", "OutgoingRefused"), 0),
    **dict.fromkeys(("Refused", "_Wrong", "_Refusal", "_refuse", "BadRequest", "SuspiciousFile"), 0),
    **dict.fromkeys(("of", "FieldProblem", "ContentError", "CredentialError", "TargetingError", "RenderError"), 1),
    **dict.fromkeys(("TemplateSyntaxError", "Form", "_pattern", "refuse"), 1),
    **dict.fromkeys(("_matching", "Reject.of"), 2),
}
"""Who is given a refusal's text, and as which argument (`automata_signal.refusals`)."""
FOR_PROGRAMS = {"sandbox", "management", "migrations", "api", "api.py", "receipts", "http2", "inbox", "idempotency.py"}
"""Where people are told nothing: devices and servers are answered."""


def refusals() -> Iterator[Text]:
    for folder in ("apps", "automata_signal"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            if FOR_PROGRAMS.isdisjoint(path.parts):
                yield from (Text(text, context=CONTEXT) for text in refusals_of_python(path.read_text()))


def refusals_of_python(source: str) -> Iterator[str]:
    """What is raised, with a placeholder for each value: `f"are more than {MAX}"` is `are more than %(value)s`."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        position = REFUSALS.get(name, REFUSALS.get(name.rpartition(".")[2]))
        if position is not None and len(node.args) > position:
            for text in _texts_of_expression(node.args[position]):
                if len(re.findall("[A-Za-z]", re.sub(r"%\(\w+\)s", "", text))) >= SHORTEST:
                    yield _with_different_names(text)


SHORTEST = 4
"""Letters that a text must have besides its values, to be known by them."""


def _texts_of_expression(node: ast.expr) -> list[str]:
    """More than one if the code chooses between them; none if it is no text."""
    if isinstance(node, ast.Constant):
        return [node.value.replace("%", "%%")] if isinstance(node.value, str) else []
    if isinstance(node, ast.IfExp):
        return [*_texts_of_expression(node.body), *_texts_of_expression(node.orelse)]
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        after = _texts_of_expression(node.right)
        return [first + second for first in _texts_of_expression(node.left) for second in after]
    if isinstance(node, ast.JoinedStr):
        return ["".join(_piece(value) for value in node.values)]
    return []


def _piece(value: ast.expr) -> str:
    if isinstance(value, ast.Constant):
        return str(value.value).replace("%", "%%")
    assert isinstance(value, ast.FormattedValue)
    return "%(value)s"


def _with_different_names(text: str) -> str:
    """The second `%(value)s` of a text is `%(value2)s`."""
    numbers = itertools.count(1)
    return re.sub(r"%\(value\)s", lambda _: f"%(value{number if (number := next(numbers)) > 1 else ''})s", text)


def korean_of_others() -> set[str]:
    """What the Korean catalogues of others translate; some of them repeat the English where nobody has."""
    places = [PACKAGES / "django" / "conf", *(Path(config.path) for config in apps.get_app_configs())]
    places += [PACKAGES / name.split("/")[0] for name in THEIRS]
    keys: set[str] = set()
    for place in places:
        file = place / "locale" / "ko" / "LC_MESSAGES" / "django.mo"
        if file.exists():
            with file.open("rb") as stream:
                catalog = gettext.GNUTranslations(stream)._catalog  # type: ignore[attr-defined]
            texts = [(key[0] if isinstance(key, tuple) else key, korean) for key, korean in catalog.items()]
            keys |= {key for key, korean in texts if korean and korean != key}
    return keys


# --- The two files -----------------------------------------------------------------------------------------------


def translations() -> dict[Text, str]:
    """What the .po says; a text without a translation, or with a doubtful one, is the empty text."""
    with PO.open("rb") as stream:
        catalogue = read_po(stream, locale="ko")
    return {text_of(message): korean_of(message) for message in catalogue if message.id}


def text_of(message: Message) -> Text:
    ids = (message.id,) if isinstance(message.id, str) else tuple(message.id)
    return Text(*ids, **({"context": message.context} if message.context else {}))


def korean_of(message: Message) -> str:
    korean = message.string if isinstance(message.string, str) else (message.string or [""])[0]
    return "" if message.fuzzy else korean


def write(translated: Mapping[Text, str]) -> None:
    """Both files."""
    PO.write_bytes(po_bytes(translated))
    MO.write_bytes(mo_bytes(translated))


def po_bytes(translated: Mapping[Text, str]) -> bytes:
    catalogue = Catalog(locale="ko")
    for text, korean in sorted(translated.items()):
        ids = (text.singular, text.plural) if text.plural else text.singular
        catalogue.add(ids, (korean,) if text.plural else korean, context=text.context or None)
    body = io.BytesIO()
    write_po(body, catalogue, width=120, no_location=True, omit_header=True, sort_output=True)
    return head() + body.getvalue().strip() + b"\n"


def head() -> bytes:
    """What stands before the first text: the glossary, and gettext's own entry."""
    before, entry, rest = PO.read_bytes().partition(b'msgid ""\nmsgstr ""\n')
    return before + entry + rest.partition(b"\n\n")[0] + b"\n\n"


def mo_bytes(translated: Mapping[Text, str]) -> bytes:
    """GNU's format: a header, the table of keys, the table of values, then all texts, sorted by key."""
    about = "Language: ko\nContent-Type: text/plain; charset=utf-8\nPlural-Forms: nplurals=1; plural=0;\n"
    entries = {b"": about.encode()}
    for text, korean in translated.items():
        if korean:
            plural = f"\x00{text.plural}" if text.plural else ""
            entries[f"{text.asked}{plural}".encode()] = korean.encode()
    keys = sorted(entries)
    values = [entries[key] for key in keys]
    tables_at = 28
    texts_at = tables_at + 16 * len(keys)
    tables, texts = b"", b""
    for piece in (*keys, *values):
        tables += struct.pack("<II", len(piece), texts_at + len(texts))
        texts += piece + b"\x00"
    values_at = tables_at + 8 * len(keys)
    return struct.pack("<7I", 0x950412DE, 0, len(keys), tables_at, values_at, 0, texts_at) + tables + texts


# --- What is wrong with it ---------------------------------------------------------------------------------------

_PLACEHOLDERS = re.compile(r"%\(\w+\)[sdif]|%[sdif]|%%|\{\w*\}|</?\w+|&\w+;")


def problems() -> list[str]:
    """One line for each text whose Korean is missing, wrong or not needed; empty if all is well."""
    asked, translated = texts_asked(), translations()
    lines = [f"is missing: {text.singular!r}" for text in sorted(asked) if not translated.get(text)]
    lines += [f"nobody asks for: {text.singular!r}" for text in sorted(translated.keys() - asked)]
    for text, korean in sorted(translated.items()):
        lines += [f"{problem}: {text.singular!r} → {korean!r}" for problem in problems_of(text, korean)]
    if MO.read_bytes() != mo_bytes(translated):
        lines.append("django.mo is not what django.po compiles to")
    return lines


def problems_of(text: Text, korean: str) -> Iterator[str]:
    """Placeholders and tags are the same, in any order; so are the blanks at both ends."""
    if not korean:
        return
    english = text.plural or text.singular
    if sorted(_PLACEHOLDERS.findall(english)) != sorted(_PLACEHOLDERS.findall(korean)):
        yield "other placeholders or tags"
    for name, end in (("starts", slice(0, 1)), ("ends", slice(-1, None))):
        if english[end].isspace() != korean[end].isspace():
            yield f"{name} with another blank"


def main() -> int:
    """Bring both files in step with the code; 1 if something is missing or wrong."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "automata_signal.settings")
    django.setup()
    before = translations()
    asked = texts_asked()
    write({text: before.get(text) or _korean_of_neighbour(text, before) for text in asked})
    print(f"{len(asked)} texts, {len(asked - before.keys())} new, {len(before.keys() - asked)} dropped")
    found = problems()
    print("\n".join(found) or "All of them are in Korean.")
    return 1 if found else 0


def _korean_of_neighbour(text: Text, before: Mapping[Text, str]) -> str:
    """The translation is kept if a text has got a plural, or lost it."""
    return next((korean for other, korean in before.items() if other.asked == text.asked), "")


if __name__ == "__main__":
    sys.exit(main())
