"""Packages of others that register losses, kernels, moves, formats or sections before settings are read."""

from __future__ import annotations

import functools
from importlib.metadata import entry_points

from boltzgen.errors import ConfigError

PLUGINS = "boltzgen.plugins"
"""The entry point group of such packages: each names a module, which is imported."""


@functools.cache
def load_plugins() -> None:
    """Import every plug-in that is installed, once. ConfigError for one that cannot be imported."""
    for entry in entry_points(group=PLUGINS):
        try:
            entry.load()
        except Exception as error:  # whatever a package of somebody else's comes upon
            said = f"{type(error).__name__}: {' '.join(str(error).split())}".removesuffix(": ")
            raise ConfigError(
                f"plug-in {entry.name}",
                f"{entry.value} cannot be imported ({said})",
                "reinstall the package that registers it, or uninstall it",
            ) from error
