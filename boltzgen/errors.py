"""The errors a user can cause; the command line prints their one line and exits with status 2."""

from pathlib import Path


class UserError(Exception):
    """Something the user can put right, told in one line.

    where
        The file, dotted key or option at fault, or what it is about.
    what
        What is wrong.
    remedy
        What to do about it.
    """

    def __init__(self, where: str | Path, what: str = "", remedy: str = "") -> None:
        super().__init__(str(where), what, remedy)
        self.where, self.what, self.remedy = str(where), what, remedy

    def __str__(self) -> str:
        told = "; ".join(filter(None, (self.what, self.remedy)))
        return " ".join(": ".join(filter(None, (self.where, told))).split())


class ConfigError(UserError):
    """A workflow file or a ``--set`` override that cannot be used."""


class MolecularSystemError(UserError):
    """A molecular system that cannot be found, built or sampled."""


class BusyError(UserError):
    """A run directory that another process is working in."""


class DataError(UserError):
    """A trajectory, weights file or saved ensemble that cannot be used."""


class NumericalError(UserError):
    """A computation that broke down (exploding dynamics, a NaN loss, weights that are all zero)."""


def said_by(error: BaseException) -> str:
    """What a library said, in one line without its full stop, to be quoted beside what it means here."""
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
