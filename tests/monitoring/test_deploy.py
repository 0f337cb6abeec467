"""`deploy/monitoring`: every series that a rule or a dashboard asks for is one we print, with the labels we give it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any, NamedTuple

import promql_parser
import pytest
import yaml
from prometheus_client import REGISTRY

from automata_signal import figures
from tests.docs.markdown import text
from tests.fleet import ROOT

FOLDER = ROOT / "deploy" / "monitoring"
RULES = FOLDER / "prometheus" / "rules" / "automata.yml"
DASHBOARDS = sorted((FOLDER / "grafana" / "dashboards").glob("*.json"))
OTHERS = {
    "up": set(),
    "node_filesystem_avail_bytes": {"fstype", "mountpoint"},
    "node_filesystem_size_bytes": {"fstype"},
}
"""Series of Prometheus itself and of the node exporter."""
TARGET_LABELS = {"job", "instance", "worker"}
"""Those that Prometheus adds (prometheus.yml)."""
_SUFFIXES = {"counter": ["_total"], "histogram": ["_bucket", "_count", "_sum"], "gauge": [""]}


def series() -> dict[str, set[str]]:
    """The name of every series of ours, with its labels."""
    found = dict(OTHERS)
    for collector in set(REGISTRY._collector_to_names):
        name, kind = getattr(collector, "_name", ""), getattr(collector, "_type", "")
        for suffix in _SUFFIXES.get(kind, ()):
            labels = set(collector._labelnames)
            if name.startswith("automata_"):
                found[name + suffix] = labels | ({"le"} if suffix == "_bucket" else set())
    for figure in (figures.SOURCE_UP, *(figure for source in figures._sources.values() for figure in source.figures)):
        found[figure.name] = set(figure.labels)
    return found


class Used(NamedTuple):
    name: str
    labels: set[str]


def used(expression: str) -> Iterator[Used]:
    """The series that an expression selects, each with the labels it is asked by; raises for what is no PromQL."""
    yield from _used(promql_parser.parse(expression), set())


def _used(node: Any, grouped_by: set[str]) -> Iterator[Used]:
    if isinstance(node, promql_parser.VectorSelector):
        matched = {matcher.name for matcher in node.matchers.matchers}
        yield Used(node.name, matched | grouped_by)
    elif isinstance(node, promql_parser.MatrixSelector):
        yield from _used(node.vector_selector, grouped_by)
    elif isinstance(node, promql_parser.AggregateExpr):
        inner = set(node.modifier.labels) if node.modifier else set()
        yield from _used(node.expr, inner or grouped_by)
    elif isinstance(node, promql_parser.BinaryExpr):
        yield from _used(node.lhs, grouped_by)
        yield from _used(node.rhs, grouped_by)
    elif isinstance(node, promql_parser.Call):
        for argument in node.args:
            yield from _used(argument, grouped_by)
    elif isinstance(node, promql_parser.ParenExpr | promql_parser.UnaryExpr | promql_parser.SubqueryExpr):
        yield from _used(node.expr, grouped_by)
    else:
        assert isinstance(node, promql_parser.NumberLiteral | promql_parser.StringLiteral), type(node)


def check(expression: str) -> None:
    known = series()
    found = list(used(expression))
    assert found, f"no series in {expression}"
    for name, labels in found:
        assert name in known, f"{name} is not printed by anybody"
        assert labels <= known[name] | TARGET_LABELS, f"{name} has no {labels - known[name] - TARGET_LABELS}"


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def panels(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


# --- Rules -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_a_rule_asks_for_what_is_printed(rule):
    check(rule["expr"])
    assert rule["labels"]["severity"] in ("critical", "major", "warning", "info")
    labels_shown = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
    grouped = set().union(*(labels for _, labels in used(rule["expr"]))) | TARGET_LABELS | {"mountpoint"}
    assert labels_shown <= grouped


def test_the_alerts_that_were_asked_for_are_there():
    names = {rule["alert"] for rule in rules()}
    assert len(names) == len(rules())
    assert {
        *("QueueAgeHigh", "QueueAgeMedium", "QueueAgeLow", "ProviderErrorRate", "NoReceipts", "StuckBatches"),
        *("QuotaNearlyUsed", "QuotaUsed", "ReplicaLag", "BreakerOpen", "DatabasePoolExhausted", "ApiErrorRate"),
        *("ApiSlow", "TargetDown", "SweepsStopped", "LedgerBehind"),
    } <= names


@pytest.mark.parametrize("wrong", ["sum(rate(automata_nothing_total[5m]))", "automata_queue_length{channel='push'}"])
def test_this_check_finds_what_is_wrong(wrong):
    with pytest.raises(AssertionError):
        check(wrong)


def test_what_is_no_promql_is_found():
    with pytest.raises(ValueError):
        list(used("sum(rate(automata_messages_total[5m])"))


def test_promtool_agrees():
    """Where there is a promtool (Debian's package prometheus has one); the tests above hold everywhere."""
    promtool = shutil.which("promtool")
    if promtool is None:
        assert all(promql_parser.parse(rule["expr"]) for rule in rules())
        return
    for arguments in (["rules", RULES], ["config", "--syntax-only", FOLDER / "prometheus" / "prometheus.yml"]):
        done = subprocess.run([promtool, "check", *map(str, arguments)], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


# --- Dashboards --------------------------------------------------------------------------------------------------


def test_there_is_a_dashboard_for_the_system_for_delivery_and_for_business():
    assert [path.stem for path in DASHBOARDS] == ["business", "delivery", "system"]


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_a_dashboard_asks_for_what_is_printed(path):
    dashboard = json.loads(path.read_text())
    provisioned = yaml.safe_load((FOLDER / "grafana/provisioning/datasources/datasources.yml").read_text())
    kinds = {source["uid"]: source["type"] for source in provisioned["datasources"]}
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(ids)) == len(ids) > 10
    for panel in panels(dashboard):
        assert kinds[panel["datasource"]["uid"]] == panel["datasource"]["type"]
        assert panel["targets"], panel["title"]
        for target in panel["targets"]:
            if panel["datasource"]["uid"] == "prometheus":
                check(re.sub(r"\$(channel|application)\b", ".*", target["expr"]))
    for variable in dashboard["templating"]["list"]:
        name, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["query"]["query"]).groups()
        assert label in series()[name]
        assert f"${variable['name']}" in path.read_text()


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_no_panel_lies_on_another(path):
    taken: set[tuple[int, int]] = set()
    for panel in json.loads(path.read_text())["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells


def test_every_series_of_ours_is_explained_on_the_page():
    explained = set(re.findall(r"^\| `(automata_\w+)` \|", text("monitoring.md"), re.MULTILINE))
    printed = {re.sub(r"_(bucket|count|sum)$", "", name) for name in series() if name not in OTHERS}
    assert explained == printed


def test_every_alert_says_on_the_page_what_to_do_at_night():
    explained = re.findall(r"^\| `([A-Z]\w+)` \|", text("monitoring.md"), re.MULTILINE)
    assert explained == [rule["alert"] for rule in rules()]


# --- The other files ---------------------------------------------------------------------------------------------


def overlay() -> dict[str, Any]:
    return dict(yaml.safe_load((FOLDER / "docker-compose.monitoring.yml").read_text()))


def product() -> dict[str, Any]:
    return dict(yaml.safe_load((ROOT / "docker-compose.yml").read_text()))


def test_prometheus_scrapes_services_that_are_there():
    jobs = {
        job["job_name"]: job
        for job in yaml.safe_load((FOLDER / "prometheus/prometheus.yml").read_text())["scrape_configs"]
    }
    services = {**product()["services"], **overlay()["services"]}
    scraped = {name for job in jobs.values() for place in job.get("dns_sd_configs", ()) for name in place["names"]}
    assert {name for name in product()["services"] if name == "web" or name.startswith("worker-")} == scraped
    [workers] = jobs["automata-workers"]["dns_sd_configs"]
    address = services["worker-high"]["environment"]["METRICS_ADDRESS"]
    assert int(address.rpartition(":")[2]) == workers["port"]
    static = [target for job in jobs.values() for place in job.get("static_configs", ()) for target in place["targets"]]
    assert {target.partition(":")[0] for target in static} - {"localhost"} <= set(services)


def test_the_overlay_mounts_what_is_there_and_publishes_nothing_but_on_loopback():
    content = overlay()
    for service in content["services"].values():
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            if source.startswith("./"):
                assert (ROOT / source).exists(), source
            elif not source.startswith("/"):
                assert source in content["volumes"]
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))
        assert not set(service.get("depends_on", ())) - {*content["services"], *product()["services"]}
    assert not set(content["services"]) & set(product()["services"])


def test_an_alert_of_every_severity_reaches_a_receiver_that_is_there():
    content = yaml.safe_load((FOLDER / "alertmanager/alertmanager.yml").read_text())
    receivers = {receiver["name"] for receiver in content["receivers"]}
    assert {content["route"]["receiver"], *(route["receiver"] for route in content["route"]["routes"])} <= receivers
    names = {rule["alert"] for rule in rules()}
    for rule in content["inhibit_rules"]:
        for matcher in [*rule["source_matchers"], *rule["target_matchers"]]:
            if matcher.startswith("alertname"):
                assert set(re.findall(r"[A-Z]\w+", matcher)) <= names


def test_no_secret_stands_in_the_files():
    for path in FOLDER.rglob("*.yml"):
        for line in path.read_text().splitlines():
            found = re.search(r"(password|token|key|secret)\w*:\s*['\"]?([\w+/=-]{12,})", line, re.IGNORECASE)
            assert found is None or found[2].startswith("/"), f"{line}: only the path of a file"


def test_logs_are_read_with_ids_as_metadata_and_few_labels():
    config = (FOLDER / "alloy" / "config.alloy").read_text()
    plain = re.sub(r"//.*|\"[^\"]*\"", "", config)
    assert plain.count("{") == plain.count("}")
    blocks = set(re.findall(r"^([\w.]+) \"(\w+)\"", config, re.MULTILINE))
    referenced = set(re.findall(r"\b((?:discovery|loki)\.\w+(?:\.\w+)?)\.(\w+)\.(?:targets|output|receiver)\b", config))
    assert referenced <= blocks
    [labels] = re.findall(r"stage\.labels \{\s*values = \{([^}]*)\}", config)
    assert re.findall(r"(\w+) +=", labels) == ["level"]


def test_loki_keeps_logs_for_thirty_days():
    content = yaml.safe_load((FOLDER / "loki" / "loki.yml").read_text())
    assert content["limits_config"]["retention_period"] == "720h"
    assert content["compactor"]["retention_enabled"] is True
