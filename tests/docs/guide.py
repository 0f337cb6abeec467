"""Reads `docs/api.md` as a script: commands, the answers shown under them, and the names taken from the answers.

The conventions, which a reader can follow as well:

- A `sh` block that starts with `curl` is a call. The `http` block after it is its answer.
- `# -> $USER_ID = data.id` under a call takes a value of the answer; later blocks use it as `$USER_ID`. Under a
  `python` block the right side is an expression.
- In an answer `…` stands for what is left out: a value, the rest of an object or list, a part of a text. Times and ids
  are examples, and any other of their form fits. Everything else is exact: no field more, none less.
- `<!-- workers run -->` says that everything due has been sent before the next call.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

REST = "…"
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_PIECE = re.compile(rf"{_FENCE.pattern}|^<!-- ([^\n]*) -->$|^(#+ [^\n]*)$", re.MULTILINE | re.DOTALL)
_CAPTURE = re.compile(r"^# -> \$([A-Z][A-Z0-9_]*) = (.+)$", re.MULTILINE)
_VARIABLE = re.compile(r"\$([A-Z][A-Z0-9_]*)")
_HEREDOC = re.compile(r"<<(\w+)\n(.*?)\n\1\n?", re.DOTALL)


class Wrong(AssertionError):
    """The guide and the API do not agree; the message says where."""


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: Any
    """What is shown, `REST` for `…`; None without a body."""


@dataclass
class Call:
    line: int
    heading: str
    command: str
    captures: list[tuple[str, str]]
    answer: Answer | None = None

    @property
    def where(self) -> str:
        return f"docs/api.md:{self.line} ({self.heading})"


@dataclass
class Code:
    line: int
    source: str
    captures: list[tuple[str, str]]


@dataclass
class Directive:
    line: int
    words: str


def read(text: str) -> list[Call | Code | Directive]:
    """The guide's steps in order. Raises `Wrong` for a call without an answer and an answer without a call."""
    steps: list[Call | Code | Directive] = []
    heading, waiting = "", None
    for piece in _PIECE.finditer(text):
        language, content, comment, title = piece.groups()
        line = text.count("\n", 0, piece.start()) + 1
        if title:
            heading = title.lstrip("# ")
        elif comment:
            steps.append(Directive(line, comment))
        elif language == "sh" and content.startswith("curl"):
            if waiting:
                raise Wrong(f"{waiting.where}: no answer is shown")
            waiting = Call(line, heading, _CAPTURE.sub("", content), _CAPTURE.findall(content))
            steps.append(waiting)
        elif language == "http":
            if waiting is None:
                raise Wrong(f"docs/api.md:{line}: an answer without a call")
            waiting.answer, waiting = _read_answer(content), None
        elif language == "python":
            steps.append(Code(line, content, _CAPTURE.findall(content)))
    if waiting:
        raise Wrong(f"{waiting.where}: no answer is shown")
    return steps


def _read_answer(content: str) -> Answer:
    head, _, body = content.partition("\n\n")
    first, *lines = head.strip().splitlines()
    headers = dict(line.split(": ", 1) for line in lines)
    return Answer(int(first.split()[1]), headers, json.loads(_with_rest(body)) if body.strip() else None)


def _with_rest(shown: str) -> str:
    """JSON with `…` outside of texts made into a text: a value, or a member of the object it stands in."""
    result, stack, in_text, before = [], [], False, ""
    index = 0
    while index < len(shown):
        character = shown[index]
        if in_text:
            if character == "\\":
                result.append(shown[index : index + 2])
                index += 2
                continue
            in_text = character != '"'
        elif character == '"':
            in_text = True
        elif character in "{[":
            stack.append(character)
        elif character in "}]":
            stack.pop()
        elif character == REST:
            is_member = stack and stack[-1] == "{" and before in "{,"
            character = f'"{REST}": "{REST}"' if is_member else f'"{REST}"'
        result.append(character)
        if not character.isspace():
            before = shown[index]
        index += 1
    return "".join(result)


# --- Commands ----------------------------------------------------------------------------------------------------


@dataclass
class Request:
    method: str
    url: str
    headers: dict[str, str] = field(default_factory=dict)
    query: list[tuple[str, str]] = field(default_factory=list)
    body: bytes | None = None


def request_of(command: str, variables: Mapping[str, str]) -> Request:
    """What curl would send. Knows the options that the guide uses and raises `Wrong` for others."""
    heredoc = _HEREDOC.search(command)
    stdin = expand(heredoc[2], variables).encode() if heredoc else None
    line = (command[: heredoc.start()] if heredoc else command).replace("\\\n", " ").strip()
    if quoted := re.search(r"'[^']*\$[A-Z][^']*'", line):
        raise Wrong(f"a shell does not fill in {quoted[0]}")
    words = iter([expand(word, variables) for word in shlex.split(line)][1:])
    request = Request("", "")
    as_query = False
    for word in words:
        match word:
            case "-s" | "-i":
                pass
            case "-G":
                as_query = True
            case "-X":
                request.method = next(words)
            case "-H":
                name, value = next(words).split(": ", 1)
                request.headers[name] = value
            case "-d":
                data = next(words)
                request.body = stdin if data == "@-" else data.encode()
            case "--data-urlencode":
                name, value = next(words).split("=", 1)
                request.query.append((name, value))
            case _ if word.startswith("-") or request.url:
                raise Wrong(f"the test does not know what curl does with {word}")
            case _:
                request.url = word
    if request.query and not as_query:
        raise Wrong("--data-urlencode without -G would be a form")
    request.method = request.method or ("POST" if request.body is not None else "GET")
    return request


def expand(text: str, variables: Mapping[str, str]) -> str:
    """`$NAME` filled in. Raises `Wrong` for a name that no earlier block gave."""

    def value(match: re.Match[str]) -> str:
        if match[1] not in variables:
            raise Wrong(f"${match[1]} has no value yet")
        return variables[match[1]]

    return _VARIABLE.sub(value, text)


# --- Answers -----------------------------------------------------------------------------------------------------


def differences(shown: Any, actual: Any, variables: Mapping[str, str], path: str = "") -> Iterator[str]:
    """Where an answer is not as it is shown."""
    if shown == REST:
        return
    if isinstance(shown, dict) and isinstance(actual, dict):
        for name in shown.keys() - actual.keys() - {REST}:
            yield f"{path}.{name} is shown, and is not there"
        if REST not in shown:
            for name in actual.keys() - shown.keys():
                yield f"{path}.{name} is there ({actual[name]!r}), and is not shown"
        for name in shown.keys() & actual.keys():
            yield from differences(shown[name], actual[name], variables, f"{path}.{name}")
    elif isinstance(shown, list) and isinstance(actual, list):
        is_open = shown[-1:] == [REST]
        items = shown[:-1] if is_open else shown
        if len(actual) < len(items) or (len(actual) > len(items) and not is_open):
            yield f"{path} has {len(actual)} elements, and {len(items)} are shown"
        for index, (item, its) in enumerate(zip(items, actual, strict=False)):
            yield from differences(item, its, variables, f"{path}[{index}]")
    elif isinstance(shown, str) and isinstance(actual, str):
        if not text_fits(shown, actual, variables):
            yield f"{path} is {actual!r}, and {expand(shown, variables)!r} is shown"
    elif type(shown) is not type(actual) or shown != actual:
        yield f"{path} is {actual!r}, and {shown!r} is shown"


def text_fits(shown: str, actual: str, variables: Mapping[str, str]) -> bool:
    for form in (UUID, _time):
        if _is(form, shown):
            return _is(form, actual)
    wanted = expand(shown, variables)
    return re.fullmatch(".*".join(map(re.escape, wanted.split(REST))), actual, re.DOTALL) is not None


def _is(form: Any, text: str) -> bool:
    try:
        form(text)
    except ValueError:
        return False
    return True


def _time(text: str) -> None:
    if "T" not in text or datetime.fromisoformat(text).tzinfo is None:
        raise ValueError


def picked(body: Any, path: str) -> str:
    """The value at `data.messages[0].id`, as a shell would hold it."""
    for step in re.findall(r"[^.\[\]]+", path):
        body = body[int(step)] if isinstance(body, list) else body[step]
    return body if isinstance(body, str) else json.dumps(body)
