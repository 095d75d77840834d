"""Probes: the only code that reads /proc, cgroups, psutil, gc and tracemalloc. One file a source."""
