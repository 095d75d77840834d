"""For the unit tests: collections that look at what a test itself has made."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module", autouse=True)
def frozen_imports() -> Iterator[None]:
    """A full collection costs 0.1 s while it visits all that the imports made, and these tests ask for 60."""
    gc.freeze()
    yield
    gc.unfreeze()
