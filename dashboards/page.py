"""The frame all three dashboards share: variables, alert annotations, links to each other and to the runbooks."""

from __future__ import annotations

from typing import Any

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.models import dashboard as models
from panels import DATASOURCE
from queries import recorded

from amm_exporter.export.names import METRICS
from amm_exporter.export.rules import HOME_PAGE, RUNBOOK_URL

FLEET_UID, PROCESS_UID, TESTS_UID = "amm-fleet", "amm-process", "amm-tests"


def link_to(uid: str, title: str, *, variables: str = "${datasource:queryparam}") -> dict[str, Any]:
    """A link on a table's cell to the row's process."""
    row = "var-job=${__data.fields.job}&var-instance=${__data.fields.instance}"
    return {"links": [{"title": title, "url": f"/d/{uid}?{row}&{variables}&from=${{__from}}&to=${{__to}}"}]}


def runbook_link() -> dict[str, Any]:
    return {
        "links": [{"title": "Runbook", "url": RUNBOOK_URL.replace("{alert}", "${__value.raw}"), "targetBlank": True}]
    }


def page(title: str, uid: str, description: str, *, instances_of: str, since: str = "now-6h") -> dashboard.Dashboard:
    """An empty dashboard with the variables, annotations and links that all three have."""
    job = METRICS[instances_of].prometheus
    board = (
        dashboard.Dashboard(title)
        .uid(uid)
        .description(description)
        .tags(["amm", "memory", "python"])
        .timezone("browser")
        .readonly()
        .time(since, "now")
        .refresh("30s")
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .with_variable(dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus"))
        .with_variable(_variable("job", f"label_values({job}, job)"))
        .with_variable(_variable("instance", f'label_values({job}{{job=~"$job"}}, instance)'))
        .annotation(_alerts())
    )
    for other, name in ((FLEET_UID, "Fleet"), (PROCESS_UID, "Process"), (TESTS_UID, "Tests and benchmarks")):
        if other != uid:
            board = board.link(
                _link(name, f"/d/{other}").include_vars(other != TESTS_UID and uid != TESTS_UID).keep_time(True)
            )
    return board.link(_link("Runbooks", f"{HOME_PAGE}/tree/main/runbooks").target_blank(True))


def _link(title: str, url: str) -> dashboard.DashboardLink:
    return dashboard.DashboardLink(title).type(models.DashboardLinkType.LINK).url(url).icon("external link")


def _variable(name: str, query: str) -> dashboard.QueryVariable:
    return (
        dashboard.QueryVariable(name)
        .label(name.capitalize())
        .datasource(DATASOURCE)
        .query(query)
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".+")
        .current(models.VariableOption(selected=True, text=["All"], value=["$__all"]))
    )


def _alerts() -> dashboard.AnnotationQuery:
    return (
        dashboard.AnnotationQuery()
        .name("Alerts")
        .datasource(DATASOURCE)
        .enable(True)
        .hide(False)
        .icon_color("red")
        .expr(recorded("ALERTS", alertname="~Amm.+", alertstate="firing"))
        .title_format("{{alertname}}")
        .text_format("{{job}} {{instance}} {{process_pid}}")
        .tag_keys("severity")
        .step("15s")
    )
