"""`docs/api.md`, run: each call against a live server, each table against the code that it speaks of."""

from __future__ import annotations

import ast
import re
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from django.conf import settings as django_settings
from django.urls import get_resolver
from django.utils import timezone

from apps.campaigns import services as campaign_services
from apps.campaigns.models import MessageCampaign
from apps.messaging import dispatch, rendering
from apps.messaging.adapters.push_content import PushOptions
from apps.messaging.models import BatchState, DispatchBatch, MessageStatus
from apps.subscriptions import targeting
from apps.subscriptions.status import RULES, Setter
from apps.tenants.access import rate_counters
from apps.tenants.application_settings import SCHEMA
from apps.tenants.models import KeyKind, Role
from apps.tenants.scopes import SCOPES
from apps.tenants.services import key_create, membership_set, operator_create
from tests.docs import guide
from tests.docs.guide import Call, Code, Directive, Wrong
from tests.docs.markdown import ROOT, codes, table, tables, text

GUIDE = text("api.md")
GIVEN = {
    *("API", "JSON", "APPLICATION_ID", "SECRET_KEY", "PUBLISHABLE_KEY", "OPERATOR_EMAIL", "OPERATOR_PASSWORD"),
    *("IDENTITY_PUBLIC_KEY", "APNS_PRIVATE_KEY", "SEND_AT", "LAUNCH_AT", "NOW"),
}
"""What the guide sets by other commands than curl, and `variables` gives."""
OPERATOR_EMAIL, OPERATOR_PASSWORD = "olga@example.com", "correct horse battery staple"


# --- The examples ------------------------------------------------------------------------------------------------


def as_json_text(pem: bytes) -> str:
    """As the guide's `awk` makes it: a key on one line, for the inside of a JSON text."""
    return pem.decode().replace("\n", "\\n")


@pytest.fixture
def variables(application, live_server, apns, fcm, apns_key, tmp_path, monkeypatch):
    """What the guide's reader has before the first call: keys of an application, and of themselves."""
    operator = operator_create(email=OPERATOR_EMAIL, password=OPERATOR_PASSWORD, name="Olga")
    membership_set(operator=operator, application=application, role=Role.OWNER)
    identity = ec.generate_private_key(ec.SECP256R1())
    private = identity.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    public = identity.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "identity.pem").write_bytes(private)
    monkeypatch.chdir(tmp_path)
    given = {
        "API": f"{live_server.url}/api/v1",
        "APPLICATION_ID": str(application.pk),
        "SECRET_KEY": key_create(application=application, name="server", kind=KeyKind.SECRET).plaintext,
        "PUBLISHABLE_KEY": key_create(application=application, name="sdk", kind=KeyKind.PUBLISHABLE).plaintext,
        "JSON": "Content-Type: application/json",
        "IDENTITY_PUBLIC_KEY": as_json_text(public),
        "APNS_PRIVATE_KEY": as_json_text(apns_key.p8.encode()),
        "SEND_AT": (datetime.now(UTC) + timedelta(hours=1)).isoformat(timespec="seconds"),
        "LAUNCH_AT": (datetime.now() + timedelta(days=2)).isoformat(timespec="seconds"),
        "NOW": datetime.now(UTC).isoformat(timespec="seconds"),
        "OPERATOR_EMAIL": OPERATOR_EMAIL,
        "OPERATOR_PASSWORD": OPERATOR_PASSWORD,
    }
    assert given.keys() == GIVEN
    return given


@pytest.fixture
def clean_redis():
    """Rates start at nothing, and nothing that the guide queues stays behind."""
    redis = rate_counters()._redis
    redis.flushdb()
    yield
    redis.flushdb()


def run_workers() -> None:
    """What workers and beat do: cut audiences, send what is due, end what is done."""
    for campaign in MessageCampaign.objects.filter(status="running", fanout_done_at=None):
        campaign_services.fan_out(campaign.pk)
    due = DispatchBatch.objects.filter(state=BatchState.WAITING, due_at__lte=timezone.now())
    for batch_id in list(due.values_list("pk", flat=True)):
        dispatch.run_batch(batch_id)
    campaign_services.campaigns_finish_done()


def call(step: Call, variables: dict[str, str], client: httpx.Client) -> None:
    """Send what curl would, and hold the answer against the one shown. Raises `Wrong`."""
    request = guide.request_of(step.command, variables)
    answer = client.request(
        request.method, request.url, headers=request.headers, params=request.query or None, content=request.body
    )
    shown = step.answer
    assert shown is not None
    if answer.status_code != shown.status:
        raise Wrong(f"{step.where}: {shown.status} is shown, and it is {answer.status_code} {answer.text}")
    for name, value in shown.headers.items():
        if not guide.text_fits(value, answer.headers.get(name, ""), variables):
            raise Wrong(f"{step.where}: header {name} is {answer.headers.get(name)!r}")
    body = answer.json() if answer.content else None
    variables |= {name: guide.picked(body, path) for name, path in step.captures}
    if problems := list(guide.differences(shown.body, body, variables)):
        raise Wrong(f"{step.where}:\n" + "\n".join(problems) + f"\n{answer.text}")


@pytest.mark.django_db(transaction=True)
@pytest.mark.timeout(180)
def test_every_example_of_the_guide_answers_as_shown(clean_redis, variables):
    wrong = []
    with httpx.Client(timeout=30) as client:
        for step in guide.read(GUIDE):
            match step:
                case Call():
                    try:
                        call(step, variables, client)
                    except Wrong as problem:
                        wrong.append(str(problem))
                case Code():
                    names = dict(variables)
                    exec(compile(step.source, f"docs/api.md:{step.line}", "exec"), names)
                    variables |= {name: str(eval(expression, names)) for name, expression in step.captures}
                case Directive(words="workers run"):
                    run_workers()
    assert not wrong, "\n\n".join(wrong)


def test_the_shell_blocks_that_are_not_run_set_only_what_the_test_gives():
    blocks = re.findall(r"^```sh\n((?!curl).*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
    set_by_the_guide = {name for block in blocks for name in re.findall(r"^([A-Z_]+)=", block, re.MULTILINE)}
    assert set_by_the_guide == GIVEN


# --- The tables --------------------------------------------------------------------------------------------------


def routes() -> dict[tuple[str, str], set[str]]:
    """Path and method of every route of the API, and the scopes of which one is needed."""
    found = {}
    for included in (p for p in get_resolver().url_patterns if str(p.pattern) == "api/v1/"):
        for pattern in included.url_patterns:
            path = re.sub(r"<uuid:\w+>", "{id}", str(pattern.pattern))
            path = re.sub(r"<\w+:(\w+)>", r"{\1}", path)
            for method, scopes in pattern.callback.cls.scopes.items():
                found[path, method] = {scopes} if isinstance(scopes, str) else set(scopes)
    return found


def test_the_table_of_routes_is_complete():
    shown = {}
    for row in table(GUIDE, "All routes"):
        shown[codes(row["Route"])[0], row["Method"]] = {name.strip("`*") for name in row["Needs"].split(" or ")}
    assert shown == routes()


def test_the_guide_names_every_error_code():
    """Of the frame and the apps; the console's are not the API's."""
    source = ""
    for folder in ("apps", "automata_signal"):
        for path in (ROOT / folder).rglob("*.py"):
            if not {"console", "sandbox", "migrations"} & set(path.parts):
                source += path.read_text()
    used = set(re.findall(r'code(?:: str)? ?= ?"([A-Z][A-Z_]+)"', source))
    used |= set(re.findall(r'error_body\("([A-Z_]+)"', source))
    used |= {f"IDENTITY_TOKEN_{word}" for word in re.findall(r'_refusal\("([A-Z]+)"', source)}
    used |= set(re.findall(r'\d{3}: "([A-Z_]+)"', source))
    only_in_the_console = {
        *("LAST_OWNER", "INVITATION_CLOSED", "CHECK_RUNNING", "BROKER_AWAY", "IMPORT_CANNOT_BE_MAPPED", "NO_COPY"),
        *("DATA_REQUEST_OPEN", "DATA_REQUEST_IS_OVER", "DATA_REQUEST_NOT_FAILED"),
    }
    shown = {codes(row["Code"])[0] for row in table(GUIDE, "Errors")}
    assert shown == used - {"ERROR"} - only_in_the_console


def test_the_guide_names_every_scope():
    [_, scopes] = tables(GUIDE, "Keys")
    shown = {codes(row["Scope"])[0]: row["Allows to"] for row in scopes}
    assert shown == {name: words[0].lower() + words[1:] for name, words in SCOPES.items()}


def test_the_guide_states_the_rates_of_the_settings():
    shown = [
        int(re.match(r"[\d,]+", row["Requests per minute"])[0].replace(",", "")) for row in table(GUIDE, "Rate limits")
    ]
    names = ("secret", "publishable", "device", "operator", "anonymous", "unauthenticated", "sign_in")
    assert shown == [django_settings.API_RATE_PER_MINUTE[name] for name in names]


def test_the_guide_names_every_subscription_status_and_who_sets_it():
    rows = table(GUIDE, "Subscription statuses")
    shown = {int(codes(row["Code"])[0]): {Setter(word) for word in row["Set by"].split(", ")} for row in rows}
    assert shown == {code: rule.setters for code, rule in RULES.items()}


def test_the_guide_names_every_message_status():
    assert {codes(row["Status"])[0] for row in table(GUIDE, "Follow a message")} == set(MessageStatus.values)


def test_the_guide_names_every_push_option():
    options = tables(GUIDE, "Push options")[-1]
    assert {codes(row["Option"])[0] for row in options} == set(PushOptions.__dataclass_fields__)


def test_the_guide_names_every_filter_and_test_of_templates():
    rows = tables(GUIDE, "What a template may use")[1]
    assert [set(codes(row["Names"])) for row in rows] == [set(rendering.FILTERS), set(rendering.TESTS)]


def test_the_limits_of_templates_are_those_of_the_code():
    [sentence] = re.findall(r"^Limits: (65,536.*?rendering)\.", GUIDE, re.MULTILINE | re.DOTALL)
    shown = {int(number.replace(",", "")) for number in re.findall(r"\d[\d,]*", sentence)}
    package = (ROOT / "apps" / "messaging" / "rendering").rglob("*.py")
    constants = re.findall(r": Final = ([\d_]+)$", "".join(path.read_text() for path in package), re.MULTILINE)
    assert shown <= {int(constant) for constant in constants}


def test_the_guide_names_every_field_and_operator_of_targeting():
    fields, operators = tables(GUIDE, "Fields and operators")
    shown = {field: set(codes(row["Operators"])) for row in fields for field in codes(row["Field"])}
    known = {name: set(targeting._field(name.replace("<", "").replace(">", "")).ops) for name in targeting.FIELDS}
    assert shown == known
    assert {name for row in operators for name in codes(row["Operator"])} == set().union(*known.values())


def test_the_guide_names_every_setting_of_an_application():
    assert {codes(row["Setting"])[0] for row in table(GUIDE, "Settings of an application")} == set(SCHEMA["properties"])


def test_the_python_of_the_guide_is_whole():
    for step in guide.read(GUIDE):
        if isinstance(step, Code):
            ast.parse(step.source)
