"""ServiceMonitor, alerts and dashboard: they find the server and ask only for what it exports."""

import json
import re

import pytest
from known_server import SERIES, takes_probes_for_requests
from manifests import OVERLAYS, SERVING, Manifests, build, builder, strings

pytestmark = pytest.mark.skipif(builder() is None, reason="neither kubectl nor kustomize is installed")

# Added to every series by Prometheus and the Operator when it scrapes; grouping by anything else is empty.
TARGET_LABELS = {"namespace", "pod", "service", "job", "instance"}
# Prometheus' own series of a scrape.
SCRAPE_SERIES = {"up": TARGET_LABELS}


@pytest.fixture(params=OVERLAYS)
def server(request: pytest.FixtureRequest) -> Manifests:
    return build(SERVING / "overlays" / request.param)


def _dashboard(manifests: Manifests) -> dict:
    return json.loads(manifests.the("ConfigMap", "model-server-dashboard")["data"]["model-server.json"])


def _expressions(manifests: Manifests) -> list[str]:
    """All PromQL of the dashboard's panels, its variables, and the alerts."""
    dashboard = _dashboard(manifests)
    panels = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    queries = [item["query"] for item in dashboard["templating"]["list"] if item["type"] == "query"]
    [group] = manifests.the("PrometheusRule")["spec"]["groups"]
    return panels + [query["query"] for query in queries] + [rule["expr"] for rule in group["rules"]]


def _series(expression: str) -> set[str]:
    return set(re.findall(r":tensorflow:[\w:]+|\bup\b(?=\{)", expression))


def test_dashboard_and_alerts_ask_only_for_series_that_exist(server: Manifests) -> None:
    asked = {name for expression in _expressions(server) for name in _series(expression)}
    assert asked and asked <= SERIES.keys() | SCRAPE_SERIES.keys()
    assert all(_series(expression) for expression in _expressions(server))


def test_queries_use_only_labels_that_the_series_have(server: Manifests) -> None:
    for expression in _expressions(server):
        known = TARGET_LABELS.union(*((SERIES | SCRAPE_SERIES)[name] for name in _series(expression)))
        matched = re.findall(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"", expression)
        grouped = re.findall(r"by \(([^)]*)\)", expression)
        used = {*matched, *(label.strip() for labels in grouped for label in labels.split(","))}
        assert used <= known, expression


def test_quantiles_keep_the_bucket_label_and_counters_are_rated(server: Manifests) -> None:
    for expression in _expressions(server):
        if "histogram_quantile" in expression:
            assert "by (le," in expression and "_bucket{" in expression
        for name in (":tensorflow:serving:request_count", ":tensorflow:serving:request_latency_bucket"):
            if name in expression and not expression.startswith("label_values"):
                assert f"rate({name}" in expression, expression


def test_no_probe_is_taken_for_a_request(server: Manifests) -> None:
    assert [asked for asked in _expressions(server) if takes_probes_for_requests(asked)] == []


def test_the_dashboard_and_the_alert_count_the_same_failures(server: Manifests) -> None:
    lists = [set(re.findall(r'status[=!]~"([^"]*)"', asked)) for asked in _expressions(server)]
    panel, alert = (statuses for statuses in lists if statuses)
    assert panel == alert


def test_expressions_are_balanced(server: Manifests) -> None:
    for expression in _expressions(server):
        for opening, closing in ("()", "{}", "[]"):
            assert expression.count(opening) == expression.count(closing), expression
        assert expression.count('"') % 2 == 0


def test_grafana_finds_a_dashboard_that_fits_its_grid(server: Manifests) -> None:
    labels = server.the("ConfigMap", "model-server-dashboard")["metadata"]["labels"]
    assert labels["grafana_dashboard"] == "1"
    panels = _dashboard(server)["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        (x, y)
        for grid in (panel["gridPos"] for panel in panels)
        for x in range(grid["x"], grid["x"] + grid["w"])
        for y in range(grid["y"], grid["y"] + grid["h"])
    ]
    assert len(set(cells)) == len(cells) and max(x for x, _ in cells) < 24
    assert all(panel["title"] and panel["description"] for panel in panels)


def test_the_dashboards_variables_are_defined(server: Manifests) -> None:
    dashboard = _dashboard(server)
    defined = {item["name"] for item in dashboard["templating"]["list"]} | {"__rate_interval", "__all"}
    used = {name for text in strings(dashboard) for name in re.findall(r"\$\{?(\w+)", text)}
    assert used <= defined and {"namespace", "model", "datasource"} <= used


def test_prometheus_scrapes_each_pod_once_where_the_metrics_are(server: Manifests) -> None:
    monitor = server.the("ServiceMonitor")
    assert monitor["apiVersion"] == "monitoring.coreos.com/v1"
    # ServiceMonitorSpec: selector and endpoints are required; it looks in its own namespace only.
    assert monitor["spec"].keys() == {"selector", "endpoints"}
    wanted = monitor["spec"]["selector"]["matchLabels"].items()
    [service] = [item for item in server.of_kind("Service") if wanted <= item["metadata"]["labels"].items()]
    [endpoint] = monitor["spec"]["endpoints"]
    assert endpoint.keys() == {"port", "path", "interval", "scrapeTimeout"}
    [port] = [item for item in service["spec"]["ports"] if item["name"] == endpoint["port"]]
    assert server.container_port(port["targetPort"]) == int(server.flags["rest_api_port"])
    config = server.file_in_container(server.flags["monitoring_config_file"])
    assert "enable: true" in config and f'path: "{endpoint["path"]}"' in config
    interval, timeout = (int(endpoint[key].removesuffix("s")) for key in ("interval", "scrapeTimeout"))
    assert timeout <= interval
    # The Operator calls a job by its Service; the alert about missing servers relies on that.
    jobs = {job for text in _expressions(server) for job in re.findall(r'job="([^"]+)"', text)}
    assert jobs == {service["metadata"]["name"]}


def test_alerts_have_what_the_operator_and_people_need(server: Manifests) -> None:
    rule_object = server.the("PrometheusRule")
    assert rule_object["apiVersion"] == "monitoring.coreos.com/v1"
    [group] = rule_object["spec"]["groups"]
    assert group.keys() == {"name", "rules"}
    names = [rule["alert"] for rule in group["rules"]]
    assert len(set(names)) == len(names) == 5
    for rule in group["rules"]:
        assert rule.keys() <= {"alert", "expr", "for", "labels", "annotations"}
        assert rule["labels"]["severity"] in {"critical", "warning"}
        used = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
        # A label that the expression has aggregated away would be empty in the message.
        assert all(re.search(rf"by \([^)]*\b{label}\b", rule["expr"]) for label in used)
