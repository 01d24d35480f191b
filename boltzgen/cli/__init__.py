"""The ``boltzgen`` command."""

from boltzgen.cli.app import main

__all__ = ["main"]
