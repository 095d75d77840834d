"""Finding the hooks of `hookspecs` that other distributions have registered."""

from __future__ import annotations

import logging
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pluggy

log = logging.getLogger("amm.control")


def load_plugins() -> pluggy.PluginManager | None:
    """Everything registered under the entry-point group; None where there is nothing, which loads nothing either."""
    from amm_exporter.hookspecs import PROJECT

    found = entry_points(group=PROJECT)
    return plugin_manager({entry.name: entry.load for entry in found}) if found else None


def plugin_manager(loaders: dict[str, Callable[[], object]]) -> pluggy.PluginManager:
    """A manager with what could be loaded; what could not is logged and left out."""
    import pluggy

    from amm_exporter import hookspecs

    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    for name, load in loaders.items():
        try:
            manager.register(load(), name)
            manager.check_pending()
        except Exception:
            manager.unregister(name=name)
            log.warning("the plugin %r could not be loaded and is left out", name, exc_info=True)
    return manager


def callers(manager: pluggy.PluginManager, hook: str) -> list[Callable[..., object]]:
    """One callable for each plugin that implements the hook, so that each can fail alone."""
    plugins = [implementation.plugin for implementation in getattr(manager.hook, hook).get_hookimpls()]
    everyone = manager.get_plugins()
    return [manager.subset_hook_caller(hook, everyone - {plugin}) for plugin in plugins]
