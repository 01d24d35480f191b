"""The errors a user can cause; the command line prints their one line and exits with status 2."""


class UserError(Exception):
    """Something the user can put right: one line saying what is wrong, where, and what to do."""


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
