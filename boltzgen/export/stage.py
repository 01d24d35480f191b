"""Trajectories, weights and a COLVAR file for other molecular dynamics tools."""

from __future__ import annotations

from pathlib import Path

import mdtraj
import numpy as np

from boltzgen.config.schema import ExportSettings
from boltzgen.ensemble.trajectory import trajectory
from boltzgen.ensemble.uncertainty import normalised_weights
from boltzgen.ensemble.weighted import WeightedEnsemble, log_sum_exp
from boltzgen.errors import NumericalError
from boltzgen.export.formats import FORMATS, ExportedFrames
from boltzgen.export.openmm_states import write_openmm
from boltzgen.runtime.files import atomic_directory
from boltzgen.smc.bounds import CONFIDENCE, MARGIN
from boltzgen.system.builders.structure_files import write_pdb
from boltzgen.system.molecular_system import MolecularSystem
from boltzgen.system.selection import selected_atoms


def export_samples(
    system: MolecularSystem, samples: WeightedEnsemble, settings: ExportSettings, directory: Path, seed: int
) -> list[Path]:
    """Write the sample in the formats asked for and return the files, sorted by name.

    ``weighted.*`` hold every configuration of positive weight (or every n-th), row by row with
    ``weights.npy``, ``log_weights.npy`` and ``COLVAR``; ``resampled.*`` hold ``settings.n_resampled``
    equally weighted frames drawn by systematic resampling; ``openmm/`` the System and States of some of
    these. ``directory`` appears complete or not at all. Raises NumericalError if no configuration has
    weight, ConfigError for a selection that MDTraj does not understand or that is empty.
    """
    weighty = np.flatnonzero(np.isfinite(samples.log_weights))
    if not len(weighty):
        raise NumericalError(
            directory,
            "nothing to export, every sample has weight zero",
            "sample with more particles or a network trained for longer",
        )
    weighted = samples.select(weighty[:: settings.stride])
    resampled = samples.select(weighty).resample(settings.n_resampled, seed)
    with atomic_directory(directory) as partial:
        write_pdb(_frames(system, system.positions[None], settings), partial / "topology.pdb")
        for stem, ensemble in (("weighted", weighted), ("resampled", resampled)):
            frames = _frames(system, ensemble.positions, settings)
            exported = ExportedFrames(frames, ensemble)
            for suffix in settings.formats:
                FORMATS[suffix].write(exported, partial / f"{stem}.{suffix}")
        weights = normalised_weights(weighted)
        np.save(partial / "weights.npy", weights)
        np.save(partial / "log_weights.npy", _normalised_log_weights(weighted))
        write_colvar(system, weighted, partial / "COLVAR")
        if settings.n_states:
            (partial / "openmm").mkdir()
            write_openmm(system, resampled.positions[: settings.n_states], partial / "openmm", seed)
        dropped = len(samples) - len(weighty)
        (partial / "README.txt").write_text(_readme(system, weighted, resampled, settings, dropped))
    return sorted(directory.iterdir())


def _frames(system: MolecularSystem, positions: np.ndarray, settings: ExportSettings) -> mdtraj.Trajectory:
    """A trajectory, superposed and cut to a selection of atoms where ``settings`` say so."""
    frames = trajectory(system, positions)
    if settings.align:
        reference = trajectory(system, system.positions[None])
        frames.superpose(reference, atom_indices=selected_atoms(system, "export.align", settings.align))
    if settings.select:
        frames = frames.atom_slice(selected_atoms(system, "export.select", settings.select))
    return frames


def write_colvar(system: MolecularSystem, ensemble: WeightedEnsemble, path: Path) -> None:
    """Write collective variables, energy [kJ/mol] and normalised log weights as a PLUMED COLVAR file.

    The time column is the frame number. Angles are in rad and lengths in nm; periodic variables have
    their domain in the header.
    """
    names = _colvar_names(system)
    lines = ["#! FIELDS " + " ".join(names)]
    for name, cv in zip(names[1:-2], system.collective_variables, strict=True):
        if cv.periodic:
            lines += [f"#! SET min_{name} -pi", f"#! SET max_{name} pi"]
    columns = [cv.values(ensemble.positions) for cv in system.collective_variables]
    columns += [ensemble.reduced_energies * system.kT, _normalised_log_weights(ensemble)]
    for frame, row in enumerate(np.stack(columns, axis=1)):
        lines.append(f" {frame:d}.0 " + " ".join(f"{value:.9g}" for value in row))
    path.write_text("\n".join(lines) + "\n")


def _colvar_names(system: MolecularSystem) -> list[str]:
    """Columns of the COLVAR file: words, no two of them the same."""
    names, own = ["time"], ["energy", "logweights"]
    for cv in system.collective_variables:
        name = "".join(c if c.isalnum() else "_" for c in cv.name)
        while name in (*names, *own):
            name += "_"
        names.append(name)
    return names + own


def _normalised_log_weights(ensemble: WeightedEnsemble) -> np.ndarray:
    """Logs of the normalised weights, finite even where the weight itself underflows."""
    return ensemble.log_weights - log_sum_exp(ensemble.log_weights)


def _log_z_line(weighted: WeightedEnsemble) -> str:
    """log Z with its standard error, or the bound that is left without one."""
    if weighted.log_z is None:
        return ""
    if weighted.log_z_error is None:
        return f"\nlog Z of the sample: above {weighted.log_z - MARGIN:.2f} ({CONFIDENCE:.0%}; lengths in nm)"
    return f"\nlog Z of the sample: {weighted.log_z:.4f} +- {weighted.log_z_error:.4f} (lengths in nm)"


def _readme(
    system: MolecularSystem,
    weighted: WeightedEnsemble,
    resampled: WeightedEnsemble,
    settings: ExportSettings,
    dropped: int,
) -> str:
    md = _states_line(min(settings.n_states, len(resampled)))
    log_z = _log_z_line(weighted)
    formats = ", ".join(settings.formats)
    suffix = next((f for f in settings.formats if f != "h5"), "h5")
    top = "" if FORMATS[suffix].own_topology else ', top="topology.pdb"'
    return f"""{system.name} at {weighted.temperature_k:g} K: weighted Boltzmann samples{log_z}

topology.pdb       atoms, bonds and the reference configuration
weighted.*         {len(weighted)} configurations ({formats}); frame i has weight i of weights.npy;
                   an .h5 file holds log_weights and reduced_energies as well
weights.npy        weights, summing to one
log_weights.npy    their natural logs
COLVAR             PLUMED format: frame number as time, collective variables (rad, nm), energy (kJ/mol),
                   logweights
resampled.*        {len(resampled)} equally weighted frames drawn from them; repeated frames are expected{md}

Left out because their weight is zero: {dropped} configurations.
Kish effective sample size of the weighted frames, blind to shared ancestry: {weighted.ess:.1f}.
{_lengths(settings)} MDTraj converts all to nm and MDAnalysis all to
Angstrom. {_treatment(settings)}
A .pdb has all bonds as CONECT records, and names of four characters at most, of which no two atoms of a
residue share one.

MDTraj (mean distance of the first two atoms, nm):
    t = mdtraj.load("weighted.{suffix}"{top}); w = numpy.load("weights.npy")
    print(numpy.dot(w, mdtraj.compute_distances(t, [[0, 1]])[:, 0]))
{_mdanalysis_example(suffix)}
PLUMED (plumed driver --noatoms --initial-step 1 --plumed plumed.dat; averages leave out step 0):
    cv: READ FILE=COLVAR VALUES={_colvar_names(system)[1]} IGNORE_TIME
    lw: READ FILE=COLVAR VALUES=logweights IGNORE_TIME
    mean: AVERAGE ARG=cv LOGWEIGHTS=lw
    PRINT ARG=mean FILE=mean FMT=%.9g
The last line of the file mean is the weighted mean. Give HISTOGRAM both LOGWEIGHTS=lw and NORMALIZATION=true:
PLUMED 2.10 ignores the first without the second. Where it breaks off with --noatoms, let it read frames along
with the rows, such as --mf_dcd weighted.dcd.
"""


def _states_line(n: int) -> str:
    if not n:
        return ""
    return f"""
openmm/            system.xml and {n} states of resampled frames with velocities: simulation.loadState(...)"""


def _lengths(settings: ExportSettings) -> str:
    """Units of lengths, and the steps that some formats store them to."""
    of_unit: dict[str, list[str]] = {}
    for suffix in settings.formats:
        of_unit.setdefault(FORMATS[suffix].unit, []).append(f".{suffix}")
    units = ", ".join(f"{unit} in {' and '.join(suffixes)}" for unit, suffixes in of_unit.items())
    rounded = [f for f in (FORMATS[suffix] for suffix in settings.formats) if f.rounding_nm]
    steps = ", ".join(f"to {f.rounding_nm:g} nm in .{f.suffix}" for f in rounded)
    return f"Lengths: {units}, as the formats ask" + (f"; stored {steps}." if steps else ".")


def _treatment(settings: ExportSettings) -> str:
    """What was done to the frames, in words."""
    aligned = (
        f"Frames are superposed by `{settings.align}`." if settings.align else "No frame was superposed."
    )
    return aligned + (f" Atoms kept: `{settings.select}`." if settings.select else "")


def _mdanalysis_example(suffix: str) -> str:
    """MDAnalysis does not read MDTraj's HDF5 layout, so there is none if that is all there is."""
    if suffix == "h5":
        return ""
    return f"""
MDAnalysis (the same, Angstrom):
    u = MDAnalysis.Universe("topology.pdb", "weighted.{suffix}"); w = numpy.load("weights.npy")
    print(sum(w[s.frame] * calc_bonds(*s.positions[:2]) for s in u.trajectory))  # MDAnalysis.lib.distances
"""
