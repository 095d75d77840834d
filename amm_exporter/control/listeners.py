"""Who hears of samples and tier changes: the application's listeners and other distributions' hooks, each isolated."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from amm_exporter.control.plugins import callers
from amm_exporter.model import Sample, Tier, TierChange

if TYPE_CHECKING:
    from pluggy import PluginManager

log = logging.getLogger("amm.control")

Listener = Callable[[Sample, Tier], object]
TierListener = Callable[[TierChange], object]
_T = TypeVar("_T")


class _Paced:
    """A listener of samples, and when it is due again."""

    __slots__ = ("due_seconds", "every_seconds", "is_behind", "listener")

    def __init__(self, listener: Listener, every_seconds: float) -> None:
        self.listener = listener
        self.every_seconds = every_seconds
        self.due_seconds = float("-inf")
        self.is_behind = False


class Listeners:
    """A listener that raises is logged once and stops neither the others nor the sampling."""

    def __init__(self) -> None:
        self._on_sample: list[_Paced] = []
        self._on_tier: list[TierListener] = []
        self._on_rest: list[Callable[[], object]] = []
        self.shortest_seconds = float("inf")
        """The pace of whoever wants to hear of samples most often; 0 of every one."""
        self._disconnect: list[Callable[[], None]] = []
        self._failed: set[Callable[..., object]] = set()

    def on_sample(self, listener: Listener, every_seconds: float = 0.0) -> Callable[[], None]:
        remove = _add(self._on_sample, _Paced(listener, every_seconds))
        self._note_shortest()

        def undo() -> None:
            remove()
            self._note_shortest()

        return undo

    def on_tier(self, listener: TierListener) -> Callable[[], None]:
        return _add(self._on_tier, listener)

    def on_rest(self, listener: Callable[[], object]) -> Callable[[], None]:
        return _add(self._on_rest, listener)

    def tell(self, sample: Sample, tier: Tier, change: TierChange | None) -> None:
        """The change first, so that whoever hears of the sample finds the rest of the program already told."""
        if change is not None:
            for tier_listener in tuple(self._on_tier):
                self._isolated(tier_listener, change)
        for paced in tuple(self._on_sample):
            paced.is_behind = sample.t_seconds < paced.due_seconds and change is None
            if not paced.is_behind:
                paced.due_seconds = sample.t_seconds + paced.every_seconds
                self._isolated(paced.listener, sample, tier)

    def wait(self, t_seconds: float) -> bool:
        """Whether one that is due by then has not heard of the last sample."""
        return any(paced.is_behind and paced.due_seconds <= t_seconds for paced in tuple(self._on_sample))

    def tell_rest(self) -> None:
        for listener in tuple(self._on_rest):
            self._isolated(listener)

    def connect(self, manager: PluginManager) -> None:
        """Let the hooks of these plugins listen too, until `disconnect`."""
        for call in callers(manager, "amm_sample"):
            self._disconnect.append(self.on_sample(partial(_call_sample_hook, call)))
        for call in callers(manager, "amm_tier"):
            self._disconnect.append(self.on_tier(partial(_call_tier_hook, call)))

    def disconnect(self) -> None:
        while self._disconnect:
            self._disconnect.pop()()

    def _note_shortest(self) -> None:
        self.shortest_seconds = min([paced.every_seconds for paced in self._on_sample], default=float("inf"))

    def _isolated(self, listener: Callable[..., object], *values: object) -> None:
        try:
            listener(*values)
        except Exception:
            if listener not in self._failed:
                self._failed.add(listener)
                log.warning("listener %r failed", listener, exc_info=True)


def _call_sample_hook(call: Callable[..., object], sample: Sample, tier: Tier) -> None:
    call(sample=sample, tier=tier)


def _call_tier_hook(call: Callable[..., object], change: TierChange) -> None:
    call(change=change)


def _add(listeners: list[_T], listener: _T) -> Callable[[], None]:
    listeners.append(listener)

    def remove() -> None:
        if listener in listeners:
            listeners.remove(listener)

    return remove
