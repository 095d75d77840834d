"""The process's watched caches and pools: `amm.watch` stands where the cache is made, whether AMM runs or not.

One registry for the process, since a cache belongs to the process and not to a governor: watching costs nothing until
somebody reads, and an exporter that is started later finds what was watched before.
"""

from __future__ import annotations

from amm_exporter.probes.caches import CacheRegistry

MAX_SHOWN = 20
"""Names with series of their own (up to seven each); the rest are summed under `_other`, so that no code can flood a
Prometheus by watching."""

CACHES = CacheRegistry(max_names=MAX_SHOWN)
watch = CACHES.watch
watch_all = CACHES.watch_all
unwatch = CACHES.unwatch
