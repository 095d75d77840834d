"""What does not work is said once: where a disk is full, it would be said again with every scrape."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from amm_exporter.errors import AMMError

log = logging.getLogger("amm.export")


class Complaints:
    """Around what may fail while the rest goes on."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    @contextmanager
    def once(self, consequence: str) -> Iterator[None]:
        """Log an AMMError in place of raising it: the first with this consequence, none after it."""
        try:
            yield
        except AMMError as error:
            if consequence not in self._said:
                self._said.add(consequence)
                log.warning("%s: %s", consequence, error)
