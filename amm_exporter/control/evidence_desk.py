"""When evidence is taken: as a series turns to leaking, and when somebody asks; and the census of object types."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from amm_exporter.analysis.leaks import Verdict
from amm_exporter.control.evidence_request import RequestBox
from amm_exporter.control.governor import Governor
from amm_exporter.control.private_directory import make_private, private_bases
from amm_exporter.control.sampling import STAND_SECONDS
from amm_exporter.control.watched import CACHES
from amm_exporter.model import Sample, Tier
from amm_exporter.policy import Policy

if TYPE_CHECKING:
    from amm_exporter.control.evidence import EvidenceRecorder
    from amm_exporter.control.growth_watch import GrowthWatch
    from amm_exporter.control.holders import Holders
    from amm_exporter.probes.objects import Census, ObjectProbe

# What reads objects, traces and chains is imported when evidence is first taken: 10 ms and 0.5 MiB that most programs
# never need. So is what sees who holds the memory, when the program has started.

log = logging.getLogger("amm.control")

LISTEN_SECONDS = STAND_SECONDS
"""How often it wants to hear of a sample: whoever asks for evidence waits that long, or for the next rest."""
CENSUS_EVERY_SECONDS = 60.0
CENSUS_SECONDS = 0.05
TOP_TYPES = 10
TOP_SITES = 20
MAX_CANDIDATES = 5


class EvidenceDesk:
    """Follows one governor, as a listener.

    `told` is called with the evidence taken of a leak, and once more when it was seen for a while where memory grows.
    """

    def __init__(self, governor: Governor, *, told: Callable[[dict[str, Any]], object] | None = None) -> None:
        self._governor = governor
        self._told = told
        self._directory = evidence_directory(governor.policy, os.environ)
        self._requests = RequestBox(self._answer)
        self._begin()

    def _begin(self) -> None:
        """State of a fresh start, here and in a forked child: what was found before is the parent's."""
        self._pid = os.getpid()
        self._recorder: EvidenceRecorder | None = None
        self._holders: Holders | None = None
        self._leaking: frozenset[str] = frozenset()
        self._growth: GrowthWatch | None = None
        self._grows: tuple[str, Verdict] | None = None
        self._objects: ObjectProbe | None = None
        self._next_census = float("-inf")
        self.census: Census | None = None

    @property
    def last(self) -> dict[str, Any] | None:
        """The evidence taken last, None before the first."""
        return self._recorder.last if self._recorder else None

    def latest(self, starts: Mapping[int, float]) -> dict[str, Any] | None:
        """The newest there is of this process and of its siblings (pid to when it began), which write beside it; before
        one that only saw a sum grow, its children's, that of whoever grew."""
        siblings = {pid: start for pid, start in starts.items() if pid != os.getpid()}
        from amm_exporter.control.evidence_files import telling_most, written

        theirs = written(self._directory, siblings) if siblings and self._directory else []
        return telling_most([*theirs, *([self.last] if self.last else [])])

    def look_for_requests(self) -> None:
        self._requests.look()

    def listen(self, sample: Sample, tier: Tier) -> None:
        if self._pid != os.getpid():
            self._begin()
        self._requests.look()
        if self._wants_census(tier) and sample.t_seconds >= self._next_census:
            self._next_census = sample.t_seconds + CENSUS_EVERY_SECONDS
            self._take_census()
        self._look_who_holds(sample)
        leaks = self._governor.leaks
        if leaks.leaking or self._leaking:  # the second: so that the recorder hears when it is over
            self._leaking = leaks.leaking
            self._consider(leaks.verdicts())
        if self._growth is not None and sample.process is not None:
            self._follow(self._growth, sample.t_seconds, sample.process.rss_bytes)

    def _consider(self, verdicts: Mapping[str, Verdict]) -> None:
        if self._recorder is None:
            self._recorder = self._new_recorder(self._directory)
        evidence = self._recorder.consider(verdicts)
        if evidence is not None:
            if "file" in evidence:
                log.warning("evidence of the leak: amm analyze %s", evidence["file"])
            self._tell(evidence)
            from amm_exporter.control.growth_watch import GrowthWatch
            from amm_exporter.control.holders import SUMMED

            leaking = {name: verdict for name, verdict in verdicts.items() if verdict.leaking}
            series = min(leaking, key=lambda name: name in SUMMED)  # rather one of this process alone
            self._growth, self._grows = GrowthWatch(leaking[series].slope), (series, leaking[series])

    def _look_who_holds(self, sample: Sample) -> None:
        governor = self._governor
        if governor.gc is None or sample.process is None:
            return
        if self._holders is None:
            from amm_exporter.control.holders import Holders

            self._holders = Holders(governor.leaks, governor.gc)
        self._holders.look(sample.t_seconds, sample.process.rss_bytes)

    def _explained(self, series: str, verdict: Verdict) -> Verdict:
        """With whose growth it is among its reasons."""
        origin = self._origin(series, verdict) if verdict.leaking else None
        if origin is None:
            return verdict
        from amm_exporter.analysis.growth import ORIGIN_WORDS

        return replace(verdict, reasons=(*verdict.reasons, f"what grows is {ORIGIN_WORDS[origin]}"))

    def _origin(self, series: str, verdict: Verdict) -> str | None:
        if self._holders is None:
            return None
        return self._holders.origin(verdict.onset_seconds, series=series, slope=verdict.slope)

    def _follow(self, growth: GrowthWatch, t_seconds: float, resident_bytes: int) -> None:
        found = growth.look(t_seconds, resident_bytes)
        if found is not None and self._recorder is not None:
            self._growth = None
            found["origin"] = (self._origin(*self._grows) if self._grows else None) or found["origin"]
            self._tell(self._recorder.add_growth(found))

    def _tell(self, evidence: dict[str, Any]) -> None:
        if self._told is not None:
            self._told(evidence)

    def _wants_census(self, tier: Tier) -> bool:
        wanted = self._governor.policy.census
        return wanted == "always" or (wanted == "high" and tier >= Tier.HIGH)

    def _take_census(self) -> None:
        if self._objects is None:
            from amm_exporter.probes.objects import ObjectProbe

            self._objects = ObjectProbe(top=TOP_TYPES)
            if self._objects.unavailable:
                log.info("no census of objects: %s", self._objects.unavailable)
        if not self._objects.unavailable:
            self.census = self._objects.census(CENSUS_SECONDS)

    def _answer(self, trace_seconds: float) -> dict[str, Any]:
        """Everything there is, for somebody who asked: traced for a while, with the chains to what grew."""
        from amm_exporter.control.evidence import isolated

        recorder = self._new_recorder(None)
        recorder.remember()
        traced = _traced(trace_seconds, self._resident_bytes)
        evidence = recorder.capture(self._governor.leaks.verdicts()) or {}
        growth = (self.last or {}).get("growth") or {}
        followed = growth.get("types", ())
        # traced before the rest: pymalloc tells nothing of itself while a tracer stands before it
        evidence |= {**traced, "chains": isolated("chains", lambda: self._chains(evidence.get("types"), followed))}
        if self._holders is not None:
            evidence |= {"origin": self._holders.origin(), "origin_seconds": self._holders.span_seconds}
        return {**evidence, "growth": growth} if growth else evidence

    def _chains(self, types: object, followed: Collection[Mapping[str, Any]]) -> dict[str, list[str]]:
        """What keeps alive the newest of the type that grew meanwhile, or since the leak was found, or takes most where
        the growth may be of such objects."""
        from amm_exporter.analysis.growth import PYTHON
        from amm_exporter.control.chains import chain_to

        if not isinstance(types, dict):
            return {}
        origin = self._holders.origin() if self._holders else None
        most = types.get("most", ()) if origin in (None, PYTHON) else ()
        since = [(row["name"], row["gained"]) for row in followed]
        named = (name for rows in (types.get("grown", ()), since, most) for name in _telling(rows))
        for name in islice(named, MAX_CANDIDATES):
            if chain := chain_to(name):
                return {name: chain}
        return {}

    def _resident_bytes(self) -> int:
        process = self._governor.sample().process
        return process.rss_bytes if process else 0

    def _new_recorder(self, directory: Path | None) -> EvidenceRecorder:
        from amm_exporter.control.evidence import EvidenceRecorder

        return EvidenceRecorder(directory, caches=CACHES.read, explain=self._explained)


def evidence_directory(policy: Policy, environ: Mapping[str, str]) -> Path | None:
    """The policy's, or one of this user's own; None where none is wanted or none can be had."""
    if policy.evidence_directory == "none":
        return None
    if policy.evidence_directory != "auto":
        return Path(policy.evidence_directory)
    for base in private_bases(environ):
        try:
            make_private(base)
        except OSError:
            continue
        return base / "evidence"
    return None


def _traced(seconds: float, resident_bytes: Callable[[], int]) -> dict[str, Any]:
    """The lines that hold most of what was allocated meanwhile, and what all lines do beside what the process grew by:
    what C code allocates without Python's knowing is not traced."""
    from amm_exporter.probes.allocations import SiteTrace

    trace = SiteTrace()
    if seconds > 0:
        trace.start()
    try:
        before, earlier = resident_bytes() - trace.tracer_bytes(), trace.sites()  # of a tracer that already ran
        passed = trace.wait(seconds)
        grown = resident_bytes() - trace.tracer_bytes() - before
        sites = {site: size - earlier.get(site, 0.0) for site, size in trace.sites().items()}
    finally:
        trace.stop()
    held = {site: size for site, size in sites.items() if size > 0}
    return {
        "sites": sorted(held.items(), key=lambda site: -site[1])[:TOP_SITES],
        "traced_seconds": round(passed, 3),
        "traced_bytes": sum(held.values()),
        "grown_bytes": grown,
    }


def _telling(rows: Collection[Sequence[Any]]) -> list[str]:
    """Names of types, first those with at least half of the highest count; of such, the built-in ones last: a chain to
    some tuple tells less than one to an order."""
    top = max((row[1] for row in rows), default=0)
    return [str(row[0]) for row in sorted(rows, key=lambda row: (2 * row[1] < top, "." not in str(row[0])))]
