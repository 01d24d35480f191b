"""Alanine dipeptide from Amber files."""

from pathlib import Path

from boltzgen import from_amber

here = Path(__file__).parent


def build(
    implicit_solvent: str = "OBC2", coordinates: str = "alanine-dipeptide.crd", temperature_k: float = 300.0
):
    """prmtop and inpcrd with a GB model."""
    return from_amber(
        here / "alanine-dipeptide.prmtop",
        here / coordinates,
        "adp",
        implicit_solvent=implicit_solvent,
        temperature_k=temperature_k,
    )
