"""What log lines carry, and what none of them shows."""

from __future__ import annotations

import io
import json
import logging
import threading

import pytest
import structlog
from django.db import IntegrityError, transaction

from apps.messaging import tasks
from apps.subscriptions.models import AppUser
from automata_signal.celery import app
from automata_signal.logs import logging_config
from automata_signal.masking import masked
from automata_signal.task_context import headers, log_context, log_fields

PERSONAL = {
    "an e-mail address": "kim.minsu+shop@example.co.kr",
    "a telephone number": "+82 10-1234-5678",
    "a bare number": "+821012345678",
    "a national number": "010-1234-5678",
    "a secret key": "as_" + "sk_" + "Zm9vYmFyYmF6cXV4Zm9vYmFyYmF6cXV4",
    "a publishable key": "as_" + "pk_" + "Zm9vYmFyYmF6cXV4Zm9vYmFyYmF6cXV4",
    "a device token": "0123456789abcdef" * 4,
    "a registration token": "dXkq1c8vT2q:" + "APA91bH" + "x_-Y" * 30,
    "an operator's token": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
    "a header": "Authorization: Bearer abcdefghijklmnopqrstuvwxyz",
    "a password in an address": "postgresql://automata:hunter2@db:5432/app",
    "a query": "https://example.com/u?external_id=kim-minsu-1987",
    "a private key": "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBg\n-----END PRIVATE KEY-----",
    "a file's address": "/m/0198c0de00007000800000000000000a.thumbnail..AbCdEfGhIjKlMnOpQrSt-_/invoice.pdf",
    "an invitation": "/account/invitation/AbCdEfGhIjKlMnOpQrStUvWxYz01234567890123456/",
    "a webhook's secret": "whsec_" + "AbCdEfGhIjKlMnOpQrStUvWxYz012345678901234",
    "a ticket": "tk_" + "AbCdEfGhIjKlMnOpQrStUvWxYz01234",
}
SHOWN = {
    "a header": "abcdefghijklmnopqrstuvwxyz",
    "a password in an address": "hunter2",
    "a query": "kim-minsu-1987",
    "a private key": "MIIEvQIBADANBg",
    "a file's address": "AbCdEfGhIjKlMnOpQrSt-_",
    "an invitation": "AbCdEfGhIjKlMnOpQrStUvWxYz",
}


@pytest.fixture
def lines():
    """What our loggers print from now on, as production prints it."""
    line = logging_config(level="INFO", as_json=True)["formatters"]["line"]
    printed = io.StringIO()
    handler = logging.StreamHandler(printed)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(**{n: v for n, v in line.items() if n != "()"}))
    root = logging.getLogger()
    root.addHandler(handler)
    yield lambda: [json.loads(text) for text in printed.getvalue().splitlines()]
    root.removeHandler(handler)


@pytest.mark.parametrize("what", PERSONAL)
def test_no_line_shows(lines, what):
    text = PERSONAL[what]
    log = logging.getLogger("somebody.else")
    log.warning("it went wrong with %s there", text)
    log.warning("cause", extra={"cause": f"it was <{text}>"})
    try:
        raise ValueError(text)
    except ValueError:
        log.exception("it failed")
    printed = json.dumps(lines())
    assert len(lines()) == 3
    assert SHOWN.get(what, text) not in printed
    assert "it went wrong with" in printed
    assert "ValueError" in printed


@pytest.mark.parametrize(
    "harmless",
    [
        "0192f8a4-7c1e-7d3a-9b5c-1234567890ab",
        "2026-11-20T20:40:55.123456Z",
        "2,000,000 messages in 91.25 s",
        "partitions were dropped: messaging_message_p2025_01",
        "12345678 rows",
        "no answer from https://api.push.apple.com:443: operation_timedout",
        "400 BadDeviceToken",
    ],
)
def test_what_names_nobody_stays_as_it_is(harmless):
    assert masked(harmless) == harmless


def test_of_a_very_long_text_only_the_beginning_is_read():
    """A path of a megabyte must not hold up the process: what is looked at is bounded, and so is each address in it."""
    text = masked(f"Not Found: /{'a' * 1_000_000}@example.com")
    assert len(text) < 10_000
    assert "example.com" not in text
    assert masked(f"kim.minsu@example.com {'x' * 9_000}").startswith("… x")


def test_the_values_of_a_violated_constraint_are_not_shown(application, lines):
    person = {"application": application, "external_id": "kim-minsu-1987"}
    AppUser.objects.create(**person)
    try:
        with transaction.atomic():
            AppUser.objects.create(**person)
    except IntegrityError:
        logging.getLogger("apps").exception("it is there already")
    printed = json.dumps(lines())
    assert "one_user_per_external_id" in printed
    assert "kim-minsu-1987" not in printed


def test_a_refused_request_is_logged_with_its_application_and_the_id_that_its_answer_names(server, application, lines):
    answer = server.get("messages/0192f8a4-7c1e-7d3a-9b5c-1234567890ab")
    assert answer.status_code == 404
    [line] = [line for line in lines() if line["event"] == "request_finished"]
    assert line["request_id"] == answer.json()["meta"]["request_id"]
    assert line["application_id"] == str(application.pk)


@pytest.mark.parametrize("given", ["order-77", "kim@example.com", 'x"}\n{"event":"forged'])
def test_a_caller_does_not_choose_what_stands_in_our_lines(server, given):
    answer = server.get("messages/0192f8a4-7c1e-7d3a-9b5c-1234567890ab", **{"x-request-id": given})
    assert given not in answer.content.decode()
    assert len(answer.json()["meta"]["request_id"]) == 36


def test_a_task_carries_the_request_that_asked_for_it(lines):
    @app.task(name="tests.speak", bind=True)
    def speak(self):
        logging.getLogger("apps").warning("in the task")

    with log_fields(request_id="order-78"):
        given = headers()
    speak.apply(headers=given)
    [line] = [line for line in lines() if line["event"] == "in the task"]
    assert (line["request_id"], line["task"]) == ("order-78", "tests.speak")
    assert structlog.contextvars.get_contextvars() == {}, "the next task begins with nothing"


def test_a_task_s_lines_name_its_batch(db, application, lines, monkeypatch):
    batch_id = "0192f8a4-7c1e-7d3a-9b5c-1234567890ab"
    monkeypatch.setattr(tasks.dispatch, "run_line", lambda *_: logging.getLogger("apps").warning("no batch of this id"))
    tasks.send_batch(batch_id, str(application.pk))
    [line] = lines()
    assert (line["batch_id"], line["application_id"]) == (batch_id, str(application.pk))


def test_the_recording_thread_names_the_batch_it_records(lines):
    context = log_context(campaign_id="c-1", batch_id="b-1")
    thread = threading.Thread(target=context.run, args=(logging.getLogger("apps").warning, "results are held"))
    thread.start()
    thread.join()
    [line] = lines()
    assert (line["campaign_id"], line["batch_id"]) == ("c-1", "b-1")


def test_a_line_is_one_object_with_the_usual_fields(lines):
    logging.getLogger("apps.messaging").warning("breaker\nopened")
    [line] = lines()
    assert {"event", "level", "logger", "timestamp"} <= set(line)
    assert (line["level"], line["logger"]) == ("warning", "apps.messaging")
