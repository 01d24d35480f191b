"""Trajectories, weights and a COLVAR file for other molecular dynamics tools."""

from __future__ import annotations

from pathlib import Path

import mdtraj
import numpy as np

from boltzgen.config import ExportSettings
from boltzgen.ensemble import WeightedEnsemble, log_sum_exp
from boltzgen.errors import NumericalError
from boltzgen.files import atomic_directory
from boltzgen.free_energy import normalised_weights
from boltzgen.storage import save_ensemble
from boltzgen.system import MolecularSystem


def export_samples(
    system: MolecularSystem, samples: WeightedEnsemble, settings: ExportSettings, directory: Path, seed: int
) -> list[Path]:
    """Write the sample in the formats asked for and return the files, sorted by name.

    ``weighted.*`` hold every configuration of positive weight, row by row with ``weights.npy``,
    ``log_weights.npy`` and ``COLVAR``; ``resampled.*`` hold ``settings.n_resampled`` equally weighted
    frames drawn by systematic resampling. Nothing is superposed. ``directory`` appears complete or not
    at all. Raises NumericalError if no configuration has weight.
    """
    carrying = np.isfinite(samples.log_weights)
    if not carrying.any():
        raise NumericalError(f"{directory}: nothing to export, every sample has weight zero")
    weighted = samples.select(np.flatnonzero(carrying))
    resampled = weighted.resample(settings.n_resampled, seed)
    with atomic_directory(directory) as partial:
        trajectory(system, system.positions[None]).save_pdb(str(partial / "topology.pdb"))
        for stem, ensemble in (("weighted", weighted), ("resampled", resampled)):
            for suffix in settings.formats:
                _save_frames(system, ensemble, partial / f"{stem}.{suffix}")
        weights = normalised_weights(weighted)
        np.save(partial / "weights.npy", weights)
        np.save(partial / "log_weights.npy", _normalised_log_weights(weighted))
        write_colvar(system, weighted, partial / "COLVAR")
        dropped = len(samples) - len(weighted)
        (partial / "README.txt").write_text(_readme(system, weighted, resampled, settings, dropped))
    return sorted(directory.iterdir())


def trajectory(system: MolecularSystem, positions: np.ndarray) -> mdtraj.Trajectory:
    """An MDTraj trajectory of positions [nm] with shape ``(n, n_atoms, 3)``, without a unit cell.

    Particles without a chemical element become MDTraj's virtual-site element.
    """
    return mdtraj.Trajectory(positions, mdtraj.Topology.from_openmm(system.topology))


def write_colvar(system: MolecularSystem, ensemble: WeightedEnsemble, path: Path) -> None:
    """Write collective variables, energy [kJ/mol] and normalised log weights as a PLUMED COLVAR file.

    The time column is the frame number. Angles are in rad and lengths in nm; periodic variables have
    their domain in the header.
    """
    names = ["_".join(cv.name.split()) for cv in system.collective_variables]
    lines = ["#! FIELDS " + " ".join(["time", *names, "energy", "logweights"])]
    for name, cv in zip(names, system.collective_variables, strict=True):
        if cv.periodic:
            lines += [f"#! SET min_{name} -pi", f"#! SET max_{name} pi"]
    columns = [cv.values(ensemble.positions) for cv in system.collective_variables]
    columns += [ensemble.reduced_energies * system.kT, _normalised_log_weights(ensemble)]
    for frame, row in enumerate(np.stack(columns, axis=1)):
        lines.append(f" {frame:d}.0 " + " ".join(f"{value:.9g}" for value in row))
    path.write_text("\n".join(lines) + "\n")


def _normalised_log_weights(ensemble: WeightedEnsemble) -> np.ndarray:
    """Logs of the normalised weights, finite even where the weight itself underflows."""
    return ensemble.log_weights - log_sum_exp(ensemble.log_weights)


def _save_frames(system: MolecularSystem, ensemble: WeightedEnsemble, path: Path) -> None:
    if path.suffix == ".h5":
        save_ensemble(ensemble, system.topology, path)
    else:
        trajectory(system, ensemble.positions).save(str(path))


def _readme(
    system: MolecularSystem,
    weighted: WeightedEnsemble,
    resampled: WeightedEnsemble,
    settings: ExportSettings,
    dropped: int,
) -> str:
    log_z = "" if weighted.log_z is None else f"\nlog Z of the sample: {weighted.log_z:.4f} (lengths in nm)"
    formats = ", ".join(settings.formats)
    suffix = next((f for f in settings.formats if f != "h5"), "h5")
    top = "" if suffix in ("pdb", "h5") else ', top="topology.pdb"'
    return f"""{system.name} at {weighted.temperature_k:g} K: weighted Boltzmann samples{log_z}

topology.pdb       atoms, bonds and the reference configuration
weighted.*         {len(weighted)} configurations ({formats}); frame i has weight i of weights.npy;
                   an .h5 file holds log_weights and reduced_energies as well
weights.npy        weights, summing to one
log_weights.npy    their natural logs
COLVAR             PLUMED format: frame number as time, collective variables (rad, nm), energy (kJ/mol),
                   logweights
resampled.*        {len(resampled)} equally weighted frames drawn from them; repeated frames are expected

Left out because their weight is zero: {dropped} configurations.
Kish effective sample size of the weighted frames, blind to shared ancestry: {weighted.ess:.1f}.
Lengths: Angstrom in .dcd and .pdb, nm in .xtc and .h5, as the formats ask; MDTraj converts all to nm and
MDAnalysis all to Angstrom. Stored to 0.001 nm in .xtc and 0.0001 nm in .pdb. No frame was superposed.

MDTraj (mean distance of the first two atoms, nm):
    t = mdtraj.load("weighted.{suffix}"{top}); w = numpy.load("weights.npy")
    print(numpy.dot(w, mdtraj.compute_distances(t, [[0, 1]])[:, 0]))
{_mdanalysis_example(suffix)}
PLUMED (plumed driver --noatoms --plumed plumed.dat):
    cv: READ FILE=COLVAR VALUES={_first_cv(system)} IGNORE_TIME
    lw: READ FILE=COLVAR VALUES=logweights IGNORE_TIME
then give LOGWEIGHTS=lw to HISTOGRAM.
"""


def _first_cv(system: MolecularSystem) -> str:
    return "_".join(system.collective_variables[0].name.split()) if system.collective_variables else "energy"


def _mdanalysis_example(suffix: str) -> str:
    """MDAnalysis does not read MDTraj's HDF5 layout, so there is none if that is all there is."""
    if suffix == "h5":
        return ""
    return f"""
MDAnalysis (the same, Angstrom):
    u = MDAnalysis.Universe("topology.pdb", "weighted.{suffix}"); w = numpy.load("weights.npy")
    print(sum(w[s.frame] * calc_bonds(*s.positions[:2]) for s in u.trajectory))  # MDAnalysis.lib.distances
"""
