"""AMM's instruments on an OpenTelemetry MeterProvider, and what they read.

Hot counters are plain numbers read by observable callbacks (an OTel add costs 12 us, an int 26 ns). The one histogram,
GC pauses, is filled from a queue drained here: recording inside a gc callback deadlocks the scrape.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from opentelemetry.metrics import CallbackOptions, Histogram, Meter, MeterProvider, Observation, get_meter_provider

from amm_exporter import __version__
from amm_exporter.control.evidence_desk import EvidenceDesk
from amm_exporter.control.governor import Governor
from amm_exporter.control.sampling import STAND_SECONDS
from amm_exporter.export.history import History
from amm_exporter.export.names import COUNTER, HISTOGRAM, METRICS, PAUSE_BUCKETS_SECONDS, UPDOWN, Metric
from amm_exporter.export.observers import OBSERVERS, Observer
from amm_exporter.export.source import Source
from amm_exporter.model import Sample, Tier
from amm_exporter.probes.gc_events import GcPause

SCOPE_NAME = "amm_exporter"
TAKE_SECONDS = STAND_SECONDS
"""How often pauses are recorded and the history grows, however fast samples come; a scrape records what is there."""


MOST = 1 << 63
"""Of the integers that OTLP knows; a larger one would cost all metrics of the export."""


class Instruments:
    """The instruments of one MeterProvider. A provider keeps instruments for ever, so they outlive a `Governor`:
    `show` makes them read one, `show(None)` makes every series of theirs vanish.
    """

    def __init__(self, provider: MeterProvider) -> None:
        meter = provider.get_meter(SCOPE_NAME, __version__)
        self._source: Source | None = None
        self.history = History()
        self._undo: list[Callable[[], None]] = []
        self.give_way: Callable[[], None] | None = None
        """Ends what is shown, for a program that starts AMM itself: it was started for the program, from outside."""
        for name, observer in OBSERVERS.items():
            _create(meter, METRICS[name], self._callback(observer))
        self._pauses = _pause_histogram(meter)

    @property
    def shown(self) -> Governor | None:
        return self._source.governor if self._source is not None else None

    @property
    def source(self) -> Source | None:
        return self._source

    def show(self, governor: Governor | None, self_bytes: int = 0, desk: EvidenceDesk | None = None) -> None:
        while self._undo:
            self._undo.pop()()
        if governor is None:
            self._source = self.give_way = None
            _forget(self._pauses)
            return
        source = self._source = Source(governor, self_bytes, desk, record=self._record)
        self.history = History()
        self._undo.append(governor.on_rest(source.drain))
        self._undo.append(
            governor.subscribe(lambda sample, tier: self._take(source, sample, tier), every_seconds=TAKE_SECONDS)
        )

    def _callback(self, observer: Observer) -> Callable[[CallbackOptions], Iterator[Observation]]:
        def observe(_: CallbackOptions) -> Iterator[Observation]:
            source = self._source
            if source is not None:
                for value, attributes in observer(source.view(observer)):
                    yield Observation(value if value < MOST else float(value), attributes)

        return observe

    def _take(self, source: Source, sample: Sample, tier: Tier) -> None:
        source.drain()
        self.history.add(sample, tier)

    def _record(self, pause: GcPause) -> None:
        self._pauses.record(pause.seconds, {"generation": pause.generation})

    def after_fork_in_child(self) -> None:
        self.history = History()
        if self._source is not None:
            self._source.after_fork_in_child()


# A provider returns the instruments it already has, with the callbacks of the first call, when they are created again.
# So there is one Instruments for each provider, for as long as the provider lives.
_INSTRUMENTS: weakref.WeakKeyDictionary[object, Instruments] = weakref.WeakKeyDictionary()


def running_history() -> History | None:
    """What the governor that runs in this process has seen since it started; None where none runs."""
    return next((one.history for one in tuple(_INSTRUMENTS.values()) if one.shown is not None), None)


def running_evidence(starts: Mapping[int, float]) -> dict[str, Any] | None:
    """The last evidence of a leak in one of these processes (pid to start time), as this one knows it."""
    source = next((one.source for one in tuple(_INSTRUMENTS.values()) if one.source is not None), None)
    return source.desk.latest(starts) if source is not None and source.desk is not None else None


class _Global:
    """The global provider: a stand-in at first, whose instruments move on to the one that is set, once, later."""


_GLOBAL = _Global()


def instruments_of(provider: MeterProvider) -> Instruments:
    """The instruments on this provider, created at the first call."""
    key = _GLOBAL if provider is get_meter_provider() else provider
    if key not in _INSTRUMENTS:
        _INSTRUMENTS[key] = Instruments(provider)
    return _INSTRUMENTS[key]


def _create(meter: Meter, metric: Metric, callback: Callable[[CallbackOptions], Iterator[Observation]]) -> None:
    if metric.kind == COUNTER:
        create = meter.create_observable_counter
    elif metric.kind == UPDOWN:
        create = meter.create_observable_up_down_counter  # type: ignore[assignment] # the three share their signature
    else:
        create = meter.create_observable_gauge  # type: ignore[assignment] # see above
    create(metric.name, callbacks=[callback], unit=metric.unit, description=metric.help)


def _pause_histogram(meter: Meter) -> Histogram:
    metric = next(row for row in METRICS.values() if row.kind == HISTOGRAM)
    return meter.create_histogram(
        metric.name,
        unit=metric.unit,
        description=metric.help,
        explicit_bucket_boundaries_advisory=PAUSE_BUCKETS_SECONDS,
    )


def _forget(histogram: Histogram) -> None:
    """Take a stopped histogram's series out of the scrape.

    The SDK has no way to end a synchronous instrument and would show its last state for ever; its storages keep the
    aggregation in a private dict. Where that is not so in some version, the frozen series stays, harmlessly.
    """
    consumer = getattr(histogram, "_measurement_consumer", None)
    storages: dict[object, object] = getattr(consumer, "_reader_storages", {})
    for storage in storages.values():
        getattr(storage, "_instrument_view_instrument_matches", {}).pop(histogram, None)
