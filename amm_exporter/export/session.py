"""Start and stop: a governor, and its metrics on a MeterProvider, as one thing."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping

from opentelemetry.metrics import MeterProvider, get_meter_provider

from amm_exporter.control.evidence_desk import LISTEN_SECONDS, EvidenceDesk
from amm_exporter.control.governor import Governor
from amm_exporter.errors import AMMError, ProbeError
from amm_exporter.export.evidence_log import emit
from amm_exporter.export.observers import MAX_SETTINGS, settings_with_numbers
from amm_exporter.export.otel import Instruments, instruments_of
from amm_exporter.policy import Policy, load_policy
from amm_exporter.probes.process import ProcessProbe

log = logging.getLogger("amm.export")
API = "opentelemetry.metrics"
"""Where the stand-ins come from that OpenTelemetry gives out while nobody has set a provider."""
CURE = (
    "start the program by `amm run -- python program.py`, or write "
    "`opentelemetry.metrics.set_meter_provider(MeterProvider([AMMMetricReader()]))` before amm.start() "
    "(docs/exporter.md)"
)


class Session:
    """A running governor whose numbers show on a MeterProvider, until `stop`."""

    def __init__(self, governor: Governor, instruments: Instruments, self_bytes: int) -> None:
        self.governor = governor
        self._instruments = instruments
        self.desk = EvidenceDesk(governor, told=emit) if governor.gc is not None else None
        self._undo: list[Callable[[], None]] = []
        if self.desk is not None:
            self._undo.append(governor.subscribe(self.desk.listen, every_seconds=LISTEN_SECONDS))
            self._undo.append(governor.on_rest(self.desk.look_for_requests))
        instruments.show(governor, self_bytes, self.desk)
        self._undo.append(governor.on_fork(instruments.after_fork_in_child))

    def stop(self) -> None:
        """End the thread, restore the gc callbacks, close the files, and let every series vanish. Twice is harmless."""
        while self._undo:
            self._undo.pop()()
        if self._instruments.shown is self.governor:
            self._instruments.show(None)
        self.governor.stop()

    def give_way(self) -> Session:
        """End as soon as the program starts AMM itself."""
        self._instruments.give_way = self.stop
        return self

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def start(
    policy: Policy | Mapping[str, object] | str | os.PathLike[str] | None = None,
    *,
    meter_provider: MeterProvider | None = None,
    pid: int | None = None,
) -> Session:
    """Watch this process (or `pid`), with metrics on the MeterProvider given or the global one.

    Takes the place of what auto-instrumentation has started. Raises PolicyError for a policy that cannot be used,
    AMMError where the provider already shows another session.
    """
    loaded = load_policy(policy)
    before = _own_rss()
    provider = meter_provider if meter_provider is not None else get_meter_provider()
    instruments = instruments_of(provider)
    if instruments.shown is not None and instruments.give_way is None:
        raise AMMError("AMM is already started on this MeterProvider; stop() that session before starting another")
    governor = Governor(loaded, pid=pid).start()
    if instruments.give_way is not None:
        instruments.give_way()
    _warn(loaded, provider)
    return Session(governor, instruments, max(0, _own_rss() - before))


def _warn(policy: Policy, provider: MeterProvider) -> None:
    """Of what would be missed, and looked for in vain."""
    if type(provider).__module__.startswith(API):
        log.warning("no MeterProvider is set, so the metrics go nowhere; %s", CURE)
    left_out = settings_with_numbers(policy)[MAX_SETTINGS:]
    if left_out:
        log.warning(
            "the plan has too many settings for metrics of each: the first %d have one, %d have none, from %r on",
            MAX_SETTINGS, len(left_out), left_out[0],
        )  # fmt: skip


def _own_rss() -> int:
    probe = ProcessProbe()
    try:
        return probe.rss_bytes()
    except ProbeError:
        return 0
    finally:
        probe.close()
