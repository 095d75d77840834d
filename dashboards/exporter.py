"""The rows of the Process dashboard about what measures: the workers of a prefork family, and the exporter itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from panels import lines, states, words
from queries import WHO, each, increase, of, rate, recorded

from amm_exporter.export import recording

Panels = Iterator[Any]
NO_FAMILY = "Not a prefork family"


def family() -> Panels:
    yield lines("Workers", "Live processes behind the address.", "none",
                (f"max by (job, instance) ({of('amm.group.processes')})", "{{instance}}"),
                width=6, empty=NO_FAMILY)  # fmt: skip
    yield lines("Workers that ended", "Rising without a deploy: workers are killed or recycled.", "none",
                (f"max by (job, instance) ({increase('amm.group.exits')})", "{{instance}}"),
                width=6, bars=True, empty=NO_FAMILY)  # fmt: skip
    yield lines("Memory of all workers", "Resident memory, summed; shared pages count once a process.", "bytes",
                (f"max by (job, instance) ({of('amm.group.memory.usage')})", "{{instance}}"),
                width=6, empty=NO_FAMILY)  # fmt: skip
    yield lines("Age of what workers show", "Seconds: a worker did not answer the scrape.", "s",
                (each("max", of("amm.group.snapshot.age")), WHO), width=6, empty=NO_FAMILY)  # fmt: skip


def exporter() -> Panels:
    good = {0: ("no data", "orange"), 1: ("works", "green")}
    yield states("Probes", "Whether each source of measurements could be read; the log names the cure.",
                 (each("min", of("amm.probe.success"), "probe"), "{{probe}} " + WHO), words(good), width=8)  # fmt: skip
    yield states("Scrapes", "Whether the target answers.", (f"max by (job, instance) ({recorded('up')})",
        "{{instance}}"),
                 words({0: ("down", "red"), 1: ("up", "green")}), width=8)  # fmt: skip
    yield lines(
        "Sampler", "Age of the last sample as seen from here, and how late it was.", "s",
        (f"clamp_min(time() - {each('max', of('amm.last_sample.timestamp'))}, 0)", f"age {WHO}"),
        (each("max", of("amm.sampler.lateness")), f"lateness {WHO}"),
    )  # fmt: skip
    yield lines("CPU of AMM", "Share of one core that AMM's own sampler uses.", "percentunit",
                (each("sum", rate("amm.self.cpu.time")), WHO), width=8)  # fmt: skip
    yield lines("Memory of AMM", "Resident memory that loading and starting AMM added.", "bytes",
                (each("max", of("amm.self.memory")), WHO), width=8)  # fmt: skip
    yield lines("Anomaly parameters", "What the adaptive threshold is computed with: deviations, floor, ceiling.",
        "none",
                (recorded(recording.DEVIATIONS), f"deviations {WHO}"), (recorded(recording.FLOOR), f"floor {WHO}"),
                (recorded(recording.CEILING), f"ceiling {WHO}"), width=8)  # fmt: skip
