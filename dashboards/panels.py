"""What the three dashboards are built from: panels and colours, in one look. Their frame is in `page`, what they ask
Prometheus in `queries`.

Needs grafana-foundation-sdk (Python 3.11 or later), which only whoever changes a dashboard installs; see build.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from grafana_foundation_sdk.builders import (
    bargauge,
    common,
    dashboard,
    prometheus,
    stat,
    statetimeline,
    table,
    timeseries,
)
from grafana_foundation_sdk.models import common as common_models
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from amm_exporter.model import Tier

DATASOURCE = common_models.DataSourceRef(type_val="prometheus", uid="${datasource}")

TIER_COLOURS = {
    Tier.NORMAL: "green",
    Tier.MODERATE: "yellow",
    Tier.HIGH: "orange",
    Tier.SEVERE: "red",
    Tier.CRITICAL: "dark-purple",
}

SCALES = {"percentunit": 0.01, "bytes": 1024, "binBps": 1024, "s": 0.001}
"""The least a panel's axis shows, by unit, so that one on which all is zero has a scale that makes sense; else 1."""

Query = tuple[str, str]
"""An expression and its legend."""


def tier_mapping() -> models.ValueMap:
    return models.ValueMap(
        {
            str(int(tier)): models.ValueMappingResult(text=tier.name, color=TIER_COLOURS[tier], index=int(tier))
            for tier in Tier
        }
    )


def words(values: Mapping[int, tuple[str, str]]) -> models.ValueMap:
    """Values shown as a word in a colour."""
    return models.ValueMap(
        {
            str(value): models.ValueMappingResult(text=text, color=colour, index=value)
            for value, (text, colour) in values.items()
        }
    )


def steps(*values: tuple[float | None, str]) -> dashboard.ThresholdsConfig:
    """Colours from a value upwards; the first has no value."""
    return (
        dashboard.ThresholdsConfig()
        .mode(models.ThresholdsMode.ABSOLUTE)
        .steps([models.Threshold(value=value, color=colour) for value, colour in values])
    )


def plain(colour: str = "text") -> dashboard.ThresholdsConfig:
    return steps((None, colour))


def target(expr: str, legend: str, ref: str, *, instant: bool = False, as_table: bool = False) -> prometheus.Dataquery:
    query = prometheus.Dataquery().datasource(DATASOURCE).expr(expr).legend_format(legend).ref_id(ref)
    query = query.instant() if instant else query.range()
    return query.format(PromQueryFormat.TABLE if as_table else PromQueryFormat.TIME_SERIES)


def refs(queries: Sequence[Query], **how: bool) -> list[prometheus.Dataquery]:
    return [target(expr, legend, chr(ord("A") + index), **how) for index, (expr, legend) in enumerate(queries)]


def lines(
    title: str,
    description: str,
    unit: str,
    *queries: Query,
    width: int = 8,
    height: int = 8,
    stacked: bool = False,
    bars: bool = False,
    minimum: float | None = 0,
    maximum: float | None = None,
    sparse: bool = False,
    empty: str = "No data",
    styles: Mapping[str, Mapping[str, Any]] | None = None,
    calcs: Sequence[str] = ("lastNotNull", "max"),
) -> timeseries.Panel:
    """A time series. `styles` maps a legend (a regular expression) to field properties, as {"color": ...}.

    `sparse` is for values that come now and then, as of test runs: shown as points, and joined. `maximum` is where the
    axis ends unless values go beyond: a ratio may pass 1, and then that is what one wants to see. `empty` says what it
    means where there is no series.
    """
    panel = (
        timeseries.Panel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .unit(unit)
        .span(width)
        .height(height)
        .targets(refs(queries))
        .line_width(0 if stacked else 2)
        .fill_opacity(60 if stacked else 80 if bars else 4)
        .draw_style(common_models.GraphDrawStyle.BARS if bars else common_models.GraphDrawStyle.LINE)
        .show_points(common_models.VisibilityMode.AUTO if sparse else common_models.VisibilityMode.NEVER)
        .span_nulls(sparse)
        .axis_soft_max(SCALES.get(unit, 1) if maximum is None else maximum)
        .no_value(empty)
        .thresholds(plain())
        .color_scheme(dashboard.FieldColor().mode(models.FieldColorModeId.PALETTE_CLASSIC))
        .legend(
            common.VizLegendOptions()
            .display_mode(common_models.LegendDisplayMode.TABLE)
            .placement(common_models.LegendPlacement.BOTTOM)
            .show_legend(True)
            .calcs(list(calcs))
        )
        .tooltip(
            common.VizTooltipOptions()
            .mode(common_models.TooltipDisplayMode.MULTI)
            .sort(common_models.SortOrder.DESCENDING)
        )
    )
    if stacked:
        panel = panel.stacking(common.StackingConfig().mode(common_models.StackingMode.NORMAL).group("A"))
    if minimum is not None:
        panel = panel.min(minimum)
    for pattern, properties in (styles or {}).items():
        panel = panel.override_by_regexp(f"/{pattern}/", values(properties))
    return panel


def values(properties: Mapping[str, Any]) -> list[models.DynamicConfigValue]:
    return [models.DynamicConfigValue(id_val=key, value=value) for key, value in properties.items()]


def colour(name: str) -> dict[str, Any]:
    return {"color": {"mode": "fixed", "fixedColor": name}}


def dashed(name: str) -> dict[str, Any]:
    """A line to compare with, not a measurement."""
    return {
        **colour(name),
        "custom.lineStyle": {"fill": "dash", "dash": [8, 6]},
        "custom.lineWidth": 1,
        "custom.fillOpacity": 0,
    }


def number(
    title: str,
    description: str,
    unit: str,
    query: str,
    *,
    legend: str = "",
    width: int = 4,
    height: int = 4,
    limits: dashboard.ThresholdsConfig | None = None,
    mapping: models.ValueMap | None = None,
    decimals: int | None = None,
) -> stat.Panel:
    """One value, now."""
    panel = (
        stat.Panel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .unit(unit)
        .span(width)
        .height(height)
        .targets(refs([(query, legend)], instant=True))
        .thresholds(limits or plain())
        .mappings([mapping] if mapping else [])
        .color_scheme(dashboard.FieldColor().mode(models.FieldColorModeId.THRESHOLDS))
        .color_mode(common_models.BigValueColorMode.VALUE)
        .graph_mode(common_models.BigValueGraphMode.NONE)
        .text_mode(common_models.BigValueTextMode.VALUE_AND_NAME if legend else common_models.BigValueTextMode.AUTO)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False).fields(""))
        .no_value("none")
    )
    return panel if decimals is None else panel.decimals(decimals)


def worst(title: str, description: str, unit: str, query: Query, *, limits: dashboard.ThresholdsConfig, width: int = 8,
          height: int = 10, maximum: float | None = None) -> bargauge.Panel:  # fmt: skip
    """The largest first, as horizontal bars."""
    panel = (
        bargauge.Panel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .unit(unit)
        .min(0)
        .span(width)
        .height(height)
        .targets(refs([query], instant=True))
        .thresholds(limits)
        .color_scheme(dashboard.FieldColor().mode(models.FieldColorModeId.THRESHOLDS))
        .display_mode(common_models.BarGaugeDisplayMode.BASIC)
        .orientation(common_models.VizOrientation.HORIZONTAL)
        .show_unfilled(True)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False).fields(""))
    )
    return panel if maximum is None else panel.max(maximum)


def states(
    title: str, description: str, query: Query, mapping: models.ValueMap, *, width: int = 24, height: int = 8
) -> statetimeline.Panel:
    """What state each series was in, over time."""
    return (
        statetimeline.Panel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .unit("none")
        .span(width)
        .height(height)
        .targets(refs([query]))
        .mappings([mapping])
        .thresholds(plain())
        .color_scheme(dashboard.FieldColor().mode(models.FieldColorModeId.THRESHOLDS))
        .merge_values(True)
        .show_value(common_models.VisibilityMode.AUTO)
        .row_height(0.8)
        .line_width(0)
        .fill_opacity(80)
        .legend(
            common.VizLegendOptions()
            .display_mode(common_models.LegendDisplayMode.LIST)
            .placement(common_models.LegendPlacement.BOTTOM)
            .show_legend(False)
        )
    )


def grid(
    title: str,
    description: str,
    columns: Sequence[tuple[str, str]],
    *,
    renamed: Mapping[str, str],
    hidden: Iterable[str] = (),
    styles: Mapping[str, Mapping[str, Any]] | None = None,
    sort: str = "",
    empty: str = "",
    width: int = 24,
    height: int = 10,
) -> table.Panel:
    """A table joined on labels; `columns` are headings and expressions, `styles` maps a heading to field properties."""
    renames = {f"Value #{chr(ord('A') + index)}": heading for index, (heading, _) in enumerate(columns)}
    if len(columns) == 1:
        renames = {"Value": columns[0][0], **renames}
    panel = (
        table.Panel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .unit("none")
        .span(width)
        .height(height)
        .targets(refs([(expr, "") for _, expr in columns], instant=True, as_table=True))
        .thresholds(plain())
        .with_transformation(models.DataTransformerConfig(id_val="merge", options={}))
        .with_transformation(
            models.DataTransformerConfig(
                id_val="organize",
                options={
                    "excludeByName": dict.fromkeys(("Time", *hidden), True),
                    "renameByName": {**renames, **renamed},
                },
            )
        )
        .show_header(True)
    )
    if empty:  # it stands in every empty cell too
        panel = panel.no_value(empty)
    if sort:
        panel = panel.sort_by([common.TableSortByFieldState().display_name(sort).desc(True)])
    for heading, properties in (styles or {}).items():
        panel = panel.override_by_name(heading, values(properties))
    return panel
