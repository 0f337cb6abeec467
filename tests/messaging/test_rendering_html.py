"""Values in the HTML of an e-mail: escaped for where they stand, and refused where none is safe."""

from __future__ import annotations

import contextlib
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.messaging.rendering import RenderError, TemplateSyntaxError, compile_template
from apps.messaging.rendering.html_context import State, advanced
from apps.messaging.rendering.logic import Logic
from apps.messaging.rendering.segments import split
from apps.messaging.rendering.values import MAX_WORK, budget

EVIL = "\"'><script>alert(1)</script>&"


def page(source: str, **variables: Any) -> str:
    return compile_template(body=source, html=True).render(variables).body


CASES = [
    ("<p>{{ v }}</p>", "a < b & c", "<p>a &lt; b &amp; c</p>"),
    ('<p title="{{ v }}">', '"> x', '<p title="&quot;&gt; x">'),
    ("<p title='{{ v }}'>", "'> x", "<p title='&#x27;&gt; x'>"),
    ('<a href="{{ v }}">', "https://a.example/?x=1&y=2", '<a href="https://a.example/?x=1&amp;y=2">'),
    ('<a href="{{ v }}">', "javascript:alert(1)", '<a href="#">'),
    ('<a href="{{ v }}">', " java\tscript:alert(1)", '<a href="#">'),
    ('<a href="{{ v }}">', "\x01JAVASCRIPT:alert(1)", '<a href="#">'),
    ('<img src="{{ v }}">', "data:text/html,<script>", '<img src="#">'),
    ('<a href="{{ v }}">', "vbscript:x", '<a href="#">'),
    ('<a href="{{ v }}">', "mailto:a@b.example", '<a href="mailto:a@b.example">'),
    ('<a href="{{ v }}">', "tel:+82-2-123", '<a href="tel:+82-2-123">'),
    ('<a href="{{ v }}">', "/orders/7", '<a href="/orders/7">'),
    ('<a href="{{ v }}">', "a/b:c", '<a href="a/b:c">'),
    ('<a href="{{ v }}?x=1">', "https://a.example", '<a href="https://a.example?x=1">'),
    ('<a href="/?q={{ v }}">', 'a&b="c"/d e', '<a href="/?q=a%26b%3D%22c%22%2Fd%20e">'),
    ('<a href="https://{{ v }}.example.com/">', "evil.example/", '<a href="https://evil.example%2F.example.com/">'),
    ('<a href="java{{ v }}">', "script:alert(1)", '<a href="javascript%3Aalert%281%29">'),
    ('<a href="mailto:{{ v }}">', "a+b@c.example?bcc=x", '<a href="mailto:a+b@c.example%3Fbcc%3Dx">'),
    ('<A HREF = "{{ v }}">', "javascript:x", '<A HREF = "#">'),
    ('<td background="{{ v }}">', "javascript:x", '<td background="#">'),
    ('<img srcset="{{ v }} 2x">', "javascript:x", '<img srcset="# 2x">'),
    ("<title>{{ v }}</title>", "</title><b>", "<title>&lt;/title&gt;&lt;b&gt;</title>"),
    ("a < b {{ v }}", "<b>", "a < b &lt;b&gt;"),
    ("<!-- x --><p>{{ v }}", "<b>", "<!-- x --><p>&lt;b&gt;"),
    ("<style>p{}</style>{{ v }}", "<b>", "<style>p{}</style>&lt;b&gt;"),
    ("{{ v|escape }}", "<b>", "&lt;b&gt;"),
    ("{{ v|upper|e }}", "<b>", "&lt;B&gt;"),
    ('<a href="{{ v|e }}">', "/?a=1&b=2", '<a href="/?a=1&amp;b=2">'),
    ('<a href="{{ v|e }}">', "javascript:alert('1')", '<a href="#">'),
    ('<a href="/?q={{ v|urlencode }}">', 'a b&"', '<a href="/?q=a%20b%26%22">'),
    ('<a href="/?q={{ v ~ v|urlencode }}">', "&", '<a href="/?q=%26%2526">'),
    ('<a href="{{ v|urlencode }}">', "javascript:x", '<a href="javascript%3Ax">'),
    ("{{ v|urlencode }}", "<", "%3C"),
    ("{{ v ~ v|escape }}", "<b>", "&lt;b&gt;&amp;lt;b&amp;gt;"),
    ("{{ v if v else v|escape }}", "<b>", "&lt;b&gt;"),
    ("{{ (v ~ '!')|escape }}", "<b>", "&lt;b&gt;!"),
    ("{{ '<i>' }}{{ v }}", "<b>", "&lt;i&gt;&lt;b&gt;"),
    ("{% if v %}<b>{{ v }}</b>{% else %}-{% endif %}", "<i>", "<b>&lt;i&gt;</b>"),
    ('{% for x in [v, v] %}<a href="{{ x }}">{{ x }}</a>{% endfor %}', "/a&b", '<a href="/a&amp;b">/a&amp;b</a>' * 2),
    ('<p class="a{% if v %} b{% endif %}" title="{{ v }}">', '"', '<p class="a b" title="&quot;">'),
    ('<a href="{% if v %}https://a.example{% endif %}/{{ v }}">', "x:y", '<a href="https://a.example/x%3Ay">'),
    ("<input {% if v %}checked {% endif %}title='{{ v }}'>", "'", "<input checked title='&#x27;'>"),
    ("<p>{%- if v -%} {{ v }} {%- endif %}</p>", "<", "<p>&lt;</p>"),
    ('<a href="{{ v }}{{ v }}">', "", '<a href="">'),
    ('<a href="{{ v }}&amp;a=b&c={{ v }}">', "/x", '<a href="/x&amp;a=b&c=%2Fx">'),
]


@pytest.mark.parametrize(("source", "value", "expected"), CASES, ids=[f"{c[0]} {c[1]}" for c in CASES])
def test_a_value_is_treated_as_its_place_asks(source: str, value: str, expected: str) -> None:
    assert page(source, v=value) == expected


REFUSED = [
    ("<script>{{ v }}</script>", 1, 9, "<script>"),
    ("<SCRIPT src='x'>\nvar a = '{{ v }}'</script>", 2, 10, "<script>"),
    ("<style>p { color: {{ v }} }</style>", 1, 19, "<style>"),
    ('<p style="color: {{ v }}">', 1, 18, "attribute style"),
    ('<p onclick="f({{ v }})">', 1, 15, "attribute onclick"),
    ('<p ONCLICK="{{ v }}">', 1, 13, "attribute onclick"),
    ("<a href={{ v }}>", 1, 9, "quotes"),
    ("<a href=x{{ v }}>", 1, 10, "quotes"),
    ("<{{ v }}>", 1, 2, "tag's name"),
    ("<p{{ v }}>", 1, 3, "tag's name"),
    ("</{{ v }}>", 1, 3, "tag's name"),
    ("<p {{ v }}>", 1, 4, "in a tag"),
    ("<p a{{ v }}='x'>", 1, 5, "attribute's name"),
    ("<p a {{ v }}>", 1, 6, "in a tag"),
    ("<!-- {{ v }} -->", 1, 6, "comment"),
    ("<!--[if mso]>{{ v }}<![endif]-->", 1, 14, "comment"),
    ("<!doctype {{ v }}>", 1, 11, "declaration"),
    ("<svg><text>{{ v }}</text></svg>", 1, 12, "<svg>"),
    ('<a href="javascript:f({{ v }})">', 1, 23, "javascript:"),
    ('<a href="&#106;avascript:{{ v }}">', 1, 26, "begins with"),
    ('<a href="{{ v }}:alert(1)">', 1, None, "scheme"),
    ('<a href="{{ v }}&colon;alert(1)">', 1, None, "scheme"),
    ('<a href="{{ v }}&#58;alert(1)">', 1, None, "scheme"),
    ('<a href="{{ v }}&#x3Ax(1)">', 1, None, "scheme"),
    ('<a href="{{ v }}&{{ v }};alert(1)">', 1, None, "begins with &"),
    ('<a href="{{ v }}&#{{ v }};alert(1)">', 1, None, "begins with &"),
    ('<a href="javascript&colon;{{ v }}">', 1, 27, "begins with"),
    ('<a href="javascript&{{ v }};alert(1)">', 1, None, "begins with"),
    ('<a href="{% if w %}https://a.example/{% endif %}{{ v }}:alert(1)">', 1, None, "scheme"),
    ('<iframe srcdoc="{{ v }}">', 1, 17, "srcdoc"),
    ('<meta http-equiv="refresh" content="0;url={{ v }}">', 1, 43, "content"),
    ('{% if v %}<p title="{% endif %}{{ v }}">', 1, 21, "branches"),
    ("{% if v %}<script>{% else %}<b>{% endif %}{{ v }}", 1, 32, "branches"),
    ("{% if v %}x{% endif %}<p {% if v %}on{% endif %}click='{{ v }}'>", 1, None, "branches"),
    ("{% for x in v %}<a title='{% endfor %}", 1, 27, "branches"),
    ("<a href='{% for x in v %}/{{ x }}{% endfor %}'>", 1, 34, "turn"),
    ("<a{% if v %} {% endif %}href='{{ v }}'>", 1, None, "branches"),
    ("<p {%- if v -%} title='{{ v }}'{% endif %}>", 1, None, ""),
    ("<a {% if v %}on {% endif %}='{{ v }}'>", 1, None, "branches"),
]


@pytest.mark.parametrize(("source", "line", "column", "part"), REFUSED, ids=[r[0] for r in REFUSED])
def test_what_is_never_safe_is_refused_with_its_place(source: str, line: int, column: int | None, part: str) -> None:
    with pytest.raises(TemplateSyntaxError) as caught:
        compile_template(body=source, html=True)
    assert (caught.value.field, caught.value.line) == ("body_template", line)
    assert column in (None, caught.value.column)
    assert part in caught.value.message


def test_only_the_body_is_html() -> None:
    rendered = compile_template(title="{{ v }}", body="{{ v }}", data={"a": "{{ v }}"}, html=True).render({"v": "<"})
    assert tuple(rendered) == ("<", "&lt;", {"a": "<"})
    assert compile_template(body="{{ v }}").render({"v": "<"}).body == "<"


def test_a_template_cannot_call_the_filters_itself() -> None:
    with pytest.raises(TemplateSyntaxError, match="unknown filter"):
        compile_template(body="{{ v|_html_text_e }}", html=True)


def test_a_large_hostile_source_is_read_in_one_go() -> None:
    for part in ("<", "<a ", "<a href='", "<!--", "</", "<a href=' ", "<script>", "<svg><", "&", "a='"):
        advanced(State(), part * (60_000 // len(part)))


# --- By another parser ---------------------------------------------------------------------------------------------


class Skeleton(HTMLParser):
    """Tags and names of attributes of a page, and the schemes of its addresses."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.seen: list[Any] = []
        self.addresses: list[str] = []
        self.feed(source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, [name for name, _ in attrs]))
        self.addresses += [value or "" for name, value in attrs if name in ("href", "src")]

    def handle_endtag(self, tag: str) -> None:
        self.seen.append(tag)


# fmt: off
LITERALS = st.sampled_from([
    "<p>", "</p>", '<a href="', '">', "<a href='", "'>", "/x?q=", "https://", "javascript:", '<p title="', '"', "'",
    " ", "x", "=", "<", ">", "<b ", "</",
    "<!--", "-->", "<title>", "</title>", "<style>", "</style>", "<p onx='", "&amp;",
    "\n", "<td background='", "mailto:", "#", "/", "<script>", "</script>", "<br/>", "title",
])
PLACEHOLDERS = st.sampled_from(["{{ a }}", "{{ b }}", "{{ c.d }}"])
VALUES = st.sampled_from([
    EVIL, "javascript:alert(1)", " jav\tascript:x", "' onerror='x", '" onload="x', "<script>", "-->", "</title>", "]]>",
    "data:text/html,x", "//evil.example", "&#106;avascript:x", "\\", ":", "alert(1)", "javascript", "",
])
# fmt: on


@settings(max_examples=600, deadline=None)
@given(st.lists(LITERALS | PLACEHOLDERS, max_size=9).map("".join), VALUES, VALUES, VALUES)
def test_no_value_changes_what_the_page_consists_of(source: str, a: str, b: str, d: str) -> None:
    try:
        template = compile_template(body=source, html=True)
    except TemplateSyntaxError:
        return
    if template.is_static:
        return
    evil = Skeleton(template.render({"a": a, "b": b, "c": {"d": d}}).body)
    good = Skeleton(template.render({"a": "x", "b": "x", "c": {"d": "x"}}).body)
    assert evil.seen == good.seen
    if not any(address.lstrip().startswith("javascript:") for address in good.addresses):
        for address in evil.addresses:
            assert not "".join(address.split()).lower().startswith(("javascript:", "data:", "vbscript:"))


@settings(max_examples=400, deadline=None)
@given(st.lists(LITERALS | PLACEHOLDERS, max_size=8).map("".join), VALUES, VALUES)
def test_both_engines_give_the_same_html(source: str, a: str, b: str) -> None:
    variables = {"a": a, "b": b, "c": {"d": 1.5}}
    refused = None
    try:
        plain = split(source, "body_template", is_html=True)
    except TemplateSyntaxError as error:
        refused = error
    if refused is not None:
        with pytest.raises(TemplateSyntaxError) as caught:
            Logic(source, "body_template", is_html=True)
        assert (caught.value.message, caught.value.column) == (refused.message, refused.column)
        return
    if plain is None:
        return
    budget.left = MAX_WORK
    assert plain.render(variables) == Logic(source, "body_template", is_html=True).render(variables)


@settings(max_examples=300, deadline=None)
@given(st.text(st.sampled_from("{}%#|<>='\"/! \nabif endfor|e~1-"), max_size=60))
def test_any_html_source_compiles_or_is_refused(source: str) -> None:
    with contextlib.suppress(TemplateSyntaxError, RenderError):
        compile_template(body=source, html=True).render({"a": EVIL, "b": {"a": ["x"]}})
