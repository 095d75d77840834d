"""For the unit tests: they ask for sixty full collections."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="module", autouse=True)
def _collections_are_quick(frozen_imports: None) -> None: ...
