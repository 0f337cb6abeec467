"""The description of the API: whole, valid, and read in a browser without another host."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import pytest
import yaml
from django.core.management import call_command
from django.test import Client

from tests.api.description import description, operations, resolved
from tests.api.routes import ENTRIES, OPERATOR, PLATFORM, PUBLIC, SDK, described

ENTRY_OF = {(method, described(route)): entry for (method, route), entry in ENTRIES.items()}
NAMES_OF_WAYS_IN = {
    PUBLIC: set(),
    OPERATOR: {"operatorToken"},
    PLATFORM: {"operatorToken", "applicationId"},
    SDK: {"publishableKey"},
}


@pytest.fixture
def browser(db) -> Client:
    return Client(raise_request_exception=False)


def test_the_generator_has_nothing_to_complain_of(tmp_path):
    call_command("spectacular", "--validate", "--fail-on-warn", "--file", str(tmp_path / "schema.yml"))
    assert yaml.safe_load((tmp_path / "schema.yml").read_text())["openapi"] == "3.1.0"


def test_every_route_is_described_and_nothing_else():
    assert {(method, path) for method, path, _ in operations()} == set(ENTRY_OF)


def test_every_operation_has_a_name_and_a_tag_of_its_kind_and_words():
    names = [operation["operationId"] for _, _, operation in operations()]
    assert len(set(names)) == len(names)
    for _, _, operation in operations():
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", operation["operationId"])
        assert len(operation["tags"]) == 1
        assert re.fullmatch(r"[a-z]+", operation["tags"][0])
        assert operation.get("description") or operation.get("summary"), operation["operationId"]


def test_every_answer_with_data_is_in_the_envelope():
    for method, path, operation in operations():
        good = {code: answer for code, answer in operation["responses"].items() if code.startswith("2")}
        assert good, (method, path)
        for code, answer in good.items():
            if code == "204":
                assert "content" not in answer
                continue
            if set(answer["content"]) <= {"text/csv", "text/event-stream"}:  # a file or a stream, and nothing else
                continue
            schema = answer["content"]["application/json"]["schema"]
            assert set(schema["required"]) == {"success", "data", "meta"}, (method, path)
            assert schema["properties"]["data"] != {}, (method, path)


def test_every_refusal_is_described():
    for _, _, operation in operations():
        codes = {"400", "401", "403", "404", "405", "406", "409", "429", "503"}
        codes |= {"413", "415"} if "requestBody" in operation else set()
        assert codes <= operation["responses"].keys()
        for code in codes:
            schema = resolved(resolved(operation["responses"][code])["content"]["application/json"]["schema"])
            assert set(schema["required"]) == {"success", "error", "meta"}


def test_every_operation_says_who_may_call_it():
    for method, path, operation in operations():
        ways_in = {name for way in operation.get("security", [{}]) for name in way}
        expected = set()
        for scope in ENTRY_OF[method, path].scopes:
            expected |= NAMES_OF_WAYS_IN.get(scope, {"secretKey", "operatorToken", "applicationId"})
        assert ways_in == expected, (method, path)
    assert description()["components"]["securitySchemes"].keys() == {
        *("secretKey", "publishableKey", "operatorToken", "applicationId")
    }


def test_bodies_take_no_other_fields():
    for method, path, operation in operations():
        for content in operation.get("requestBody", {}).get("content", {}).values():
            assert resolved(content["schema"])["additionalProperties"] is False, (method, path)


def test_enumerations_have_names_that_say_what_they_are():
    names = [name for name in description()["components"]["schemas"] if name.endswith("Enum")]
    assert "CampaignStatusEnum" in names
    assert not [name for name in names if re.search(r"\d", name)]


def test_lists_are_described_with_their_pages():
    for method, path, operation in operations():
        if "cursor" in {parameter["name"] for parameter in operation.get("parameters", ())}:
            assert method == "GET"
            schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
            assert schema["properties"]["data"]["type"] == "array", path


def test_the_description_is_served_as_json_and_as_yaml(browser):
    as_json = browser.get("/api/schema/", headers={"accept": "application/json"})
    assert as_json.status_code == 200
    assert json.loads(as_json.content)["openapi"] == "3.1.0"
    as_yaml = browser.get("/api/schema/")
    assert yaml.safe_load(as_yaml.content)["info"]["title"] == "Automata-Signal API"


def test_the_documents_page_loads_everything_from_here(browser):
    page = browser.get("/api/docs/")
    assert page.status_code == 200
    text = page.content.decode()
    assert re.findall(r"https?://(?!www\.w3\.org)[^\s\"'<]+", text) == []
    links = _links(text)
    assert any(link.endswith("swagger-ui-bundle.js") for link in links)
    for link in links:
        assert re.match(r"/[^/]", link)
        answer = browser.get(link)
        assert answer.status_code == 200, link
        assert b"".join(answer) or answer.content


@pytest.mark.parametrize("path", ["/api/schema/", "/api/docs/"])
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_the_description_can_only_be_read(browser, path, method):
    assert browser.generic(method, path, b"{}", "application/json").status_code == 405


def _links(text: str) -> list[str]:
    class Links(HTMLParser):
        found: list[str] = []

        def handle_starttag(self, tag, attributes):
            self.found += [value for name, value in attributes if name in ("src", "href") and value]

    parser = Links()
    parser.found = []
    parser.feed(text)
    return [link for link in parser.found if not link.startswith("data:")]
