"""The real console in a real Chromium: pages are opened, clicked and looked at as an operator would.

Each page is watched: a request to another host, an error of a script or a breach of the content policy fails the test.
Pictures of `Console.shot` are kept in `.local/screenshots`, which CI keeps as artefacts. Chromium is the machine's own;
without one these tests are skipped, but never where `REQUIRE_CHROMIUM` is set (`.ci/run` sets it).
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.sessions.backends.db import SessionStore
from django.core.cache import cache
from playwright.sync_api import Browser, BrowserContext, Page, Request, sync_playwright

from apps.tenants.models import Application, Operator
from apps.tenants.services import membership_set

SCREENSHOTS = Path(settings.BASE_DIR) / ".local" / "screenshots"
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--force-color-profile=srgb"),
]
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
SERIOUS = ("serious", "critical")


TEST_TIMEOUT_S = 400
ACTION_TIMEOUT_MS = 30_000
"""Two cores share a browser, the server and the other tests."""


def pytest_collection_modifyitems(items) -> None:
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent) and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(TEST_TIMEOUT_S))


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        reason = "no Chromium on this machine: the console's pages are not tried in a browser (CHROMIUM names one)"
        if os.environ.get("REQUIRE_CHROMIUM"):
            pytest.fail(reason)
        pytest.skip(reason)
    # Playwright's event loop runs in our thread until it is stopped: Django is told, and no other file's tests meet it.
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()
    del os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"]


@dataclass
class Console:
    """An operator's browser at the console. `page` is Playwright's; addresses are paths."""

    context: BrowserContext
    page: Page
    base: str
    problems: list[str] = field(default_factory=list)
    """What no page may do: other hosts, script errors, breaches of the content policy, answers of 500."""

    def open(self, path: str, *, status: int = 200) -> Page:
        """Go there, and wait until nothing is loading any more."""
        answer = self.page.goto(f"{self.base}{path}")
        assert answer is not None
        assert answer.status == status, f"{path}: {answer.status}"
        self.settle()
        return self.page

    def settle(self) -> None:
        self.page.wait_for_load_state("networkidle")

    def shot(self, name: str, *, full: bool = True) -> Path:
        """A picture of the page, to be looked at: `.local/screenshots/<name>.png`."""
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        path = SCREENSHOTS / f"{name}.png"
        self.page.screenshot(path=path, full_page=full, animations="disabled")
        return path

    def axe(self) -> None:
        """No serious problem for who uses a keyboard or a screen reader."""
        found = [v for v in Axe().run(self.page).response["violations"] if v["impact"] in SERIOUS]
        lines = [f"{v['id']} ({v['impact']}): {v['help']}: {[n['html'][:200] for n in v['nodes'][:3]]}" for v in found]
        assert not found, f"{self.page.url}\n" + "\n".join(lines)

    def fits(self) -> None:
        """The page itself does not scroll sideways; wide tables scroll inside of their place."""
        wide = self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 1, f"{self.page.url} is {wide} px wider than the window"

    def choose_language(self, code: str) -> None:
        cookie = {"name": settings.LANGUAGE_COOKIE_NAME, "value": code, "url": self.base}
        self.context.add_cookies([cookie])

    def _watch(self, page: Page) -> None:
        page.on("request", self._check_host)
        page.on("pageerror", lambda error: self.problems.append(f"script error on {page.url}: {error}"))
        page.on("response", lambda r: self.problems.append(f"{r.url}: {r.status}") if r.status >= 500 else None)
        page.on("console", self._read_console)

    def _check_host(self, request: Request) -> None:
        parts = urlsplit(request.url)
        if parts.scheme in ("http", "https", "ws", "wss") and parts.netloc != urlsplit(self.base).netloc:
            self.problems.append(f"request to another host: {request.url}")

    def _read_console(self, message) -> None:
        if message.type == "error" and re.search("Content Security Policy|Refused to", message.text):
            self.problems.append(message.text)


def session_of(operator: Operator) -> str:
    """The key of a session of the operator, as signing in makes it."""
    session = SessionStore()
    session[SESSION_KEY] = str(operator.pk)
    session[BACKEND_SESSION_KEY] = settings.AUTHENTICATION_BACKENDS[0]
    session[HASH_SESSION_KEY] = operator.get_session_auth_hash()
    session.save()
    return str(session.session_key)


@pytest.fixture
def browse(transactional_db, live_server, chromium, application):
    """`browse("owner")`: a browser of somebody of that role in the application; "root": of a superuser; "": of nobody.

    Further arguments are Playwright's for a context, such as `viewport=PHONE` and `color_scheme="dark"`.
    """
    cache.clear()
    consoles: list[Console] = []

    def open_browser(role: str = "root", of: Application = application, **options) -> Console:
        options = {
            "viewport": DESKTOP,
            "locale": "en-GB",
            "timezone_id": "Asia/Seoul",
            "reduced_motion": "reduce",
        } | options
        context = chromium.new_context(**options)
        context.set_default_timeout(ACTION_TIMEOUT_MS)
        if role:
            cookie = {"name": settings.SESSION_COOKIE_NAME, "value": session_of(operator_of(role, of))}
            context.add_cookies([{**cookie, "url": live_server.url}])
        console = Console(context, context.new_page(), live_server.url)
        console._watch(console.page)
        consoles.append(console)
        return console

    yield open_browser
    problems = [problem for console in consoles for problem in console.problems]
    for console in consoles:
        console.context.close()
    assert not problems, "\n".join(problems)


def operator_of(role: str, application: Application) -> Operator:
    """Somebody of that role: the same person each time."""
    email = f"{role}@example.com"
    if existing := Operator.objects.filter(email=email).first():
        return existing
    if role == "root":
        return Operator.objects.create_superuser(email, None, name="Root")
    operator = Operator.objects.create_user(email, None, name=role.capitalize())
    membership_set(operator=operator, application=application, role=role)
    return operator
