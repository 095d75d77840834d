"""The Process dashboard: one process (or a few) from its pressure down to its pools."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from exporter import exporter, family
from grafana_foundation_sdk.builders import common, dashboard
from grafana_foundation_sdk.models.common import ScaleDistribution
from page import PROCESS_UID, page
from panels import TIER_COLOURS, colour, dashed, lines, number, states, steps, tier_mapping, words
from queries import WHO, each, increase, of, rate, recorded

from amm_exporter.export import recording
from amm_exporter.export.memory_alerts import FAST_BURN, SLOW_BURN, STALL_SHARE_LIMIT
from amm_exporter.export.upkeep_alerts import GC_SHARE_LIMIT
from amm_exporter.model import RAISED_TIERS

Panels = Iterator[Any]
NO_CACHE, NO_POOL = "No watched cache tells", "No pool is watched"
YES_NO = {0: ("no", "green"), 1: ("yes", "red")}


def process() -> dashboard.Dashboard:
    board = page("AMM / Process",
        PROCESS_UID, "One process: pressure against its own thresholds, and what stands behind it.",
                 instances_of="amm.memory.tier", since="now-3h")  # fmt: skip
    rows: tuple[tuple[str, Callable[[], Panels]], ...] = (
        ("Pressure", _pressure),
        ("Memory", _memory),
        ("Leaks", _leaks),
        ("Garbage collection", _collection),
        ("Caches and pools", _caches),
        ("Plan and actions", _actions),
        ("Prefork family", family),
        ("Exporter health", exporter),
    )
    for title, panels in rows:
        board = board.with_row(dashboard.Row(title))
        for panel in panels():
            board = board.with_panel(panel)
    return board


def _pressure() -> Panels:
    yield number(
        "Tier",
        "Pressure tier in force.",
        "none",
        each("max", of("amm.memory.tier")),
        legend=WHO,
        mapping=tier_mapping(),
    )
    yield number(
        "Pressure",
        "Use over the limit that binds.",
        "percentunit",
        recorded(recording.PRESSURE),
        legend=WHO,
        decimals=1,
    )
    yield number(
        "Headroom", "Bytes left before the limit.", "bytes", each("min", of("amm.memory.headroom")), legend=WHO
    )
    yield number("Full in", "Time until the limit at the present growth; none while memory does not grow.", "s",
                 each("min", of("amm.memory.exhaustion")), legend=WHO)  # fmt: skip
    yield number(
        "Resident", "Memory of the process in RAM.", "bytes", each("max", of("process.memory.usage")), legend=WHO
    )
    yield number("Running for", "Time since the process started.", "s", each("max", of("process.uptime")), legend=WHO)
    yield _headline()
    yield states("Tier history", "The tier the process was in.", (each("max", of("amm.memory.tier")), WHO),
        tier_mapping(),
                 width=12, height=7)  # fmt: skip
    yield lines("Time in tiers", "Share of time spent in each tier.", "percentunit",
                *((each("sum", rate("amm.memory.tier.time", tier=tier.label)), f"{tier.label} {WHO}")
                  for tier in TIER_COLOURS),
                width=12, height=7, stacked=True, maximum=1,
                styles={f"^{tier.label} ": colour(TIER_COLOURS[tier]) for tier in TIER_COLOURS})  # fmt: skip


def _headline() -> Any:
    tiers = tuple(
        (recorded(recording.TIER_THRESHOLD, tier=tier.label), f"{tier.label} from {WHO}") for tier in RAISED_TIERS
    )
    return lines(
        "Pressure against its thresholds",
        "Use over limit, the tiers' thresholds from the policy in force, the median of the calm day and the adaptive"
        " threshold above which the level is anomalous.",
        "percentunit",
        (recorded(recording.PRESSURE), f"pressure {WHO}"),
        (recorded(recording.CALM_MEDIAN), f"calm median {WHO}"),
        (recorded(recording.ADAPTIVE_THRESHOLD), f"adaptive threshold {WHO}"),
        *tiers,
        width=24,
        height=11,
        maximum=1,
        styles={
            "^pressure ": {"custom.lineWidth": 3, "custom.fillOpacity": 12},
            "^calm median ": dashed("light-blue"),
            "^adaptive threshold ": {**colour("blue"), "custom.lineWidth": 2},
            **{f"^{tier.label} from ": dashed(TIER_COLOURS[tier]) for tier in RAISED_TIERS},
        },
    )


def _memory() -> Panels:
    yield lines(
        "Memory of the process", "Resident, its peak, swap and AMM's own part.", "bytes",
        (each("max", of("process.memory.usage")), f"resident {WHO}"),
        (each("max", of("amm.memory.peak")), f"peak {WHO}"),
        (each("max", of("amm.memory.swap")), f"swap {WHO}"),
        styles={"^peak ": {"custom.lineStyle": {"fill": "dash", "dash": [8, 6]}}},
    )  # fmt: skip
    yield lines("Held against the limit", "By scope: process, tree, cgroup (working set) or host.", "bytes",
                (each("max", of("amm.memory.usage"), "scope"), "{{scope}} " + WHO))  # fmt: skip
    yield lines("Limits", "Every limit found; the smallest binds.", "bytes",
                (each("min", of("amm.memory.limit"), "source"), "{{source}} " + WHO),
                (each("min", of("amm.budget.limit")), f"budget {WHO}"), minimum=None).scale_distribution(
                    common.ScaleDistributionConfig().type(ScaleDistribution.LOG).log(2))  # fmt: skip
    yield lines("Pressure by scope", "Use over limit; the worst scope decides the tier.", "percentunit",
                (each("max", of("amm.memory.usage_ratio"), "scope"), "{{scope}} " + WHO), maximum=1)  # fmt: skip
    yield lines("Memory over budget", "Process tree over its budget, and how fast the allowance for that burns.",
        "percentunit",
                (each("max", of("amm.budget.usage_ratio")), f"of budget {WHO}"), empty="No budget is set")  # fmt: skip
    yield lines(
        "Budget burn", "Times the allowed share of time over budget, over four windows.", "none",
        *((recorded(recording.BURN + window), f"{window} {WHO}") for window in recording.BURN_WINDOWS),
        empty="No budget is set",
    ).thresholds(steps((None, "text"), (SLOW_BURN, "orange"), (FAST_BURN, "red")))  # fmt: skip
    yield lines("Stalled for memory", "Share of time tasks stood still (Linux pressure stall information).",
        "percentunit",
                (each("max", rate("amm.memory.pressure.stall"), "scope", "kind"),
                "{{scope}} {{kind}} " + WHO), maximum=STALL_SHARE_LIMIT,
                empty="This kernel does not measure it")  # fmt: skip
    yield lines("Page faults", "Major ones read from disk or swap.", "ops",
                (each("sum", rate("process.paging.faults"), "system_paging_fault_type"),
                "{{system_paging_fault_type}} " + WHO))  # fmt: skip
    yield lines("Cgroup events", "Throttled (high), limit hit (oom), killed (oom_kill).", "none",
                (each("max", increase("amm.cgroup.events"), "event"), "{{event}} " + WHO), bars=True,
                empty="The cgroup counts none")  # fmt: skip
    yield lines("Virtual memory", "Address space that is reserved; it may far exceed what is used.", "bytes",
                (each("max", of("process.memory.virtual")), WHO), width=6)  # fmt: skip
    yield lines("Processes in the tree", "This process and its descendants.", "none",
                (each("max", of("amm.memory.tree.processes")), WHO), width=6)  # fmt: skip
    yield lines("Allocators", "What the allocators hold, used and free. One in glibc's place is named, at 0.", "bytes",
                (each("max", of("amm.allocator.memory"), "allocator", "state"), "{{allocator}} {{state}} " + WHO),
                (each("max", of("amm.allocator.preloaded"), "allocator") + " * 0", "{{allocator}}, not glibc " + WHO),
                width=6, stacked=True)  # fmt: skip
    yield lines("Fragmentation", "Free share of what the allocator holds.", "percentunit",
                (each("max", of("amm.allocator.fragmentation_ratio"), "allocator"), "{{allocator}} " + WHO),
                width=6, maximum=1)  # fmt: skip


def _leaks() -> Panels:
    yield lines(
        "Growth with its confidence band",
        "Estimated growth, its bounds and the smallest growth that counts as a leak. A leak has its lower bound above"
        " that line.",
        "binBps",
        (each("max", of("amm.memory.leak.slope"), "series"), "growth {{series}} " + WHO),
        # Grafana fills between two series by their names, so these must not vary with the process: of several chosen
        # ones, the band takes all in
        (f"min by (series) ({recorded(recording.LEAK_LOWER)})", "lower {{series}}"),
        (f"max by (series) ({of('amm.memory.leak.slope.upper')})", "upper {{series}}"),
        (each("max", recorded(recording.LEAK_THRESHOLD), "series"), "smallest leak {{series}} " + WHO),
        width=12, minimum=None,
        styles={
            "^growth ": {"custom.lineWidth": 3},
            "^(lower|upper) ": {**colour("blue"), "custom.lineWidth": 1, "custom.fillOpacity": 0},
            **{f"^upper {series}$": {"custom.fillBelowTo": f"lower {series}", "custom.fillOpacity": 20}
               for series in ("rss", "tree", "cgroup", "heap", "floor")},
            "^smallest leak ": dashed("red"),
        },
    )  # fmt: skip
    yield lines("Lowest resident memory",
        "Minimum over a quarter of an hour: it rises only if memory is not given back.", "bytes",
                (recorded(recording.RSS_FLOOR), WHO), width=12)  # fmt: skip
    yield states("Leak verdict", "Whether the series is judged to leak.",
                 (each("max", of("amm.memory.leak.detected"), "series"), "{{series}} " + WHO), words(YES_NO),
                 width=12, height=6)  # fmt: skip
    yield lines("Growing for", "Time since the growth began, and until the limit is reached at its slope.", "s",
                (each("max", of("amm.memory.leak.onset.age"), "series"), "{{series}} " + WHO),
                (each("min", of("amm.memory.leak.exhaustion"), "series"), "{{series}} left " + WHO),
                width=12, height=6, empty="Nothing grows")  # fmt: skip
    yield lines("Objects by type",
        "The most numerous growing types, sampled. A type that only ever grows names the leak.", "short",
                (each("max", of("amm.objects"), "type"), "{{type}} " + WHO), width=24)  # fmt: skip


def _collection() -> Panels:
    buckets = each("sum", rate("amm.gc.pause.duration", "bucket"), "le")
    busy = f"and {each('sum', rate('amm.gc.pause.duration', 'count'))} > 0"
    yield lines("Time in the collector", "Share of the program's time.", "percentunit",
                (recorded(recording.GC_SHARE), WHO)).thresholds(steps((None, "text"),
                (GC_SHARE_LIMIT, "red")))  # fmt: skip
    yield lines(
        "Pauses", "How long collections stop the program; empty while there is none.", "s",
        (f"histogram_quantile(0.5, {buckets}) {busy}", f"median {WHO}"),
        (f"histogram_quantile(0.99, {buckets}) {busy}", f"99 % {WHO}"),
    )  # fmt: skip
    yield lines("Longest pause", "Longest collection since the start, by generation.", "s",
                (each("max", of("amm.gc.pause.max"), "generation"), "generation {{generation}} " + WHO))  # fmt: skip
    yield lines("Collections", "Collections a second, by generation.", "ops",
                (each("sum", rate("cpython.gc.collections"), "cpython_gc_generation"),
                "generation {{cpython_gc_generation}} " + WHO))  # fmt: skip
    yield lines(
        "Objects collected", "Garbage found in cycles, and what cannot be freed.", "ops",
        (each("sum", rate("cpython.gc.collected_objects")), f"collected {WHO}"),
        (each("sum", rate("cpython.gc.uncollectable_objects")), f"uncollectable {WHO}"),
        styles={"^uncollectable ": colour("red")},
    )  # fmt: skip
    yield lines("Memory freed by collections",
        "Fall of resident memory across full collections. Near zero: collecting more is useless.",
                "binBps", (each("sum", rate("amm.gc.freed")), WHO))  # fmt: skip


def _caches() -> Panels:
    label = "{{name}} "
    yield lines(
        "Cache hit ratio", "Over five minutes, since the start, and the median of the day.", "percentunit",
        (recorded(recording.CACHE_HITS), label + WHO),
        (recorded(recording.CACHE_HITS_MEDIAN), f"median {label}{WHO}"),
        (each("max", of("amm.cache.hit_ratio"), "name"), f"since start {label}{WHO}"),
        maximum=1, styles={"^median ": dashed("light-blue"), "^since start ": dashed("text")},
        empty=NO_CACHE,
    )  # fmt: skip
    yield lines("Cache look-ups", "Look-ups a second, by result.", "reqps",
                (each("sum", rate("amm.cache.requests"), "name", "result"), label + "{{result}} " + WHO),
                empty=NO_CACHE)  # fmt: skip
    yield lines("Cache evictions", "Entries pushed out. High beside misses: the cache is too small.", "ops",
                (each("sum", rate("amm.cache.evictions"), "name"), label + WHO), empty=NO_CACHE)  # fmt: skip
    yield lines("Cache entries", "Entries held, and the most that the cache holds.", "short",
                (each("max", of("amm.cache.entries"), "name"), label + WHO),
                (each("max", of("amm.cache.max_entries"), "name"), f"most {label}{WHO}"),
                styles={"^most ": dashed("text")}, empty=NO_CACHE)  # fmt: skip
    yield lines("Cache size", "Bytes held, where the cache knows them.", "bytes",
                (each("max", of("amm.cache.size"), "name"), label + WHO), empty=NO_CACHE)  # fmt: skip
    yield lines("Pool objects", "Used and idle objects of watched pools.", "short",
                (each("max", of("amm.pool.objects"), "name", "state"), label + "{{state}} " + WHO),
                stacked=True, empty=NO_POOL)  # fmt: skip
    yield lines("Pool acquisitions", "Reused (hit), made new (miss), or had to wait.", "reqps",
                (each("sum", rate("amm.pool.requests"), "name", "result"), label + "{{result}} " + WHO),
                width=24, height=7, empty=NO_POOL)  # fmt: skip


def _actions() -> Panels:
    yield lines("Tier changes", "From tier to tier. Many: widen the hysteresis or the gap between tiers.", "none",
                (each("sum", increase("amm.memory.tier.transitions"), "from", "to") + " > 0",
                "{{from}} to {{to}} " + WHO),
                width=6, bars=True, empty="The tier has not changed")  # fmt: skip
    yield lines("Plan", "Values of the adaptive settings in the tier in force.", "short",
                (each("max", of("amm.plan.value"), "setting"), "{{setting}} " + WHO), width=6)  # fmt: skip
    yield lines("Actions", "What was done, and how it ended.", "none",
                (each("sum", increase("amm.actions"), "action", "outcome") + " > 0", "{{action}}: {{outcome}} " + WHO),
                width=6, bars=True, empty="Nothing was done")  # fmt: skip
    yield lines("Memory freed by actions", "Fall of resident memory across each action, as measured.", "bytes",
                (each("sum", increase("amm.action.freed"), "action"), "{{action}} " + WHO),
                width=6, bars=True)  # fmt: skip
