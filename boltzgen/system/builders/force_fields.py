"""OpenMM force fields from their files, and Systems of topologies that they know."""

from __future__ import annotations

import difflib
import itertools
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import entry_points
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import openmm
from openmm import app

from boltzgen.errors import MolecularSystemError, said_by
from boltzgen.system.builders import file_kinds
from boltzgen.system.builders.inputs import InputOptions
from boltzgen.system.builders.solutes import check_no_solvent, check_one_molecule
from boltzgen.system.builders.structures import Structure, checked_file, read_structure
from boltzgen.system.builders.templates import Fault, telling_fault
from boltzgen.system.labels import Labels

RESIDUE_TEMPLATES = "system.parameters.residue_templates"
_AMBIGUOUS = re.compile(
    r"Multiple non-identical matching templates found for residue (-?\d+) \(.*?\): (.*)\.$"
)
_UNDESCRIBED = re.compile(r"No parameters defined for atom type (\S+)")
_BONDED_SULFURS_NM = 0.25
_MOST_CHOICES = 100
"""Residues with several templates that are decided one after another."""


@dataclass(frozen=True)
class Parametrised:
    """A System and what was chosen to make it, a line each."""

    system: openmm.System
    notices: tuple[str, ...] = ()


def build_by_force_field(
    path: Path, others: Sequence[Path], options: InputOptions
) -> tuple[Structure, openmm.System]:
    """Structure and System of a PDB or mmCIF file and OpenMM force fields, some of them beside it."""
    for other in others:
        checked_file(other, file_kinds.FORCE_FIELD)
    if options.implicit_solvent is not None:
        raise MolecularSystemError(
            "system.parameters.implicit_solvent",
            f"is for files that bring their parameters, and {path} brings none",
            "name the solvent among the force fields, as in forcefield: [amber14-all.xml, implicit/obc2.xml]",
        )
    structure = read_structure(path)
    check_no_solvent(path, structure.topology, structure.names)
    files = (*options.forcefield, *others)
    made = parametrised(path, structure, files, options.of_create_system(), options.residue_templates)
    check_one_molecule(path, structure.topology)
    _check_sulfurs(path, structure)
    notices = (*structure.notices, *made.notices, *_thiolates(path, structure))
    return replace(structure, notices=notices), made.system


def _thiolates(path: Path, structure: Structure) -> list[str]:
    """A line for each cysteine without hydrogen or bond at its sulfur; an error where it is called CYX."""
    labels, said = Labels(structure.topology, structure.names), []
    bonded = {atom for bond in _disulfides(structure.topology) for atom in bond}
    for sulfur in _sulfurs(structure.topology):
        if sulfur in bonded or any(atom.name == "HG" for atom in sulfur.residue.atoms()):
            continue
        label = labels.residue(sulfur.residue)
        called = structure.names[sulfur.index][0] if structure.names else sulfur.residue.name
        if called in ("CYX", "CYS2"):
            raise MolecularSystemError(
                path,
                f"{label} is named as in a disulfide, and no other sulfur is near",
                "mend the structure, or call it CYS and put in HG",
            )
        said.append(f"{path}: {label} has no HG and no disulfide, and is a thiolate")
    return said


def _check_sulfurs(path: Path, structure: Structure) -> None:
    """Refuse sulfurs of cysteines that are as near as in a disulfide and not bonded."""
    labels, x = Labels(structure.topology, structure.names), structure.positions
    bonded = {frozenset(bond) for bond in _disulfides(structure.topology)}
    for one, other in itertools.combinations(_sulfurs(structure.topology), 2):
        apart = float(np.linalg.norm(x[one.index] - x[other.index]))
        if apart < _BONDED_SULFURS_NM and frozenset((one, other)) not in bonded:
            raise MolecularSystemError(
                path,
                f"{labels.atom(one)} and {labels.atom(other)} are {apart:.2g} nm apart and not bonded",
                "take out their hydrogens HG for a disulfide, or move them apart",
            )


def _sulfurs(topology: app.Topology) -> list[app.topology.Atom]:
    return [atom for atom in topology.atoms() if atom.name == "SG"]


def _disulfides(topology: app.Topology) -> list[tuple[app.topology.Atom, app.topology.Atom]]:
    return [(a, b) for a, b in topology.bonds() if a.name == b.name == "SG"]


@dataclass(frozen=True)
class Choice:
    """A template for a residue, and why, where nobody asked for it."""

    template: str
    notice: str = ""


def parametrised(
    where: Path | str,
    structure: Structure,
    files: Sequence[Path | str],
    options: dict[str, object],
    preferred: Sequence[str] = (),
) -> Parametrised:
    """The System of a structure in a force field.

    where
        The structure, for messages.
    options
        Arguments of `openmm.app.ForceField.createSystem`.
    preferred
        Names of templates to take where several fit a residue and differ.

    Raises MolecularSystemError, one line, for files that are no force fields and what they do not describe.
    """
    called = ", ".join(map(str, files))
    field = _force_field(files)
    choices: dict[int, str] = {}
    field.registerTemplateMatcher(lambda field, residue, *_: field._templates.get(choices.get(residue.index)))
    notices: list[str] = []
    for _ in range(_MOST_CHOICES):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about settings that are not those of a molecule in vacuum
                system = field.createSystem(structure.topology, **options)
            _check_solvents(called, system)
            return Parametrised(system, tuple(notices))
        except MolecularSystemError:
            raise
        except Exception as error:  # OpenMM raises whatever it comes upon
            ambiguous = _AMBIGUOUS.search(str(error))
            if ambiguous is None:
                raise _explained(where, structure, field, called, error) from error
            index, names = int(ambiguous.group(1)), ambiguous.group(2).split(", ")
            choice = _chosen(where, structure, field, index, names, preferred)
            choices[index] = choice.template
            notices += [choice.notice] if choice.notice else []
    raise MolecularSystemError(where, f"too many residues have several templates in {called}", "name them")


def _check_solvents(called: str, system: openmm.System) -> None:
    """Two implicit solvents, which OpenMM would add up."""
    solvents = [f for f in system.getForces() if isinstance(f, openmm.GBSAOBCForce | openmm.CustomGBForce)]
    if len(solvents) > 1:
        raise MolecularSystemError(
            f"force field {called}", f"holds {len(solvents)} implicit solvents, which add up", "name one"
        )


def _explained(
    where: Path | str, structure: Structure, field: app.ForceField, called: str, error: Exception
) -> MolecularSystemError:
    if undescribed := _UNDESCRIBED.search(str(error)):
        return _type_without_parameters(where, structure, field, called, undescribed.group(1))
    found: Fault | None = telling_fault(structure, field, called, str(error))
    if found is None:
        return MolecularSystemError(
            where,
            f"{called} gives no parameters for it ({said_by(error)})",
            "check that the force-field files belong together and describe every atom",
        )
    return MolecularSystemError(where, found.what, found.remedy)


def _type_without_parameters(
    where: Path | str, structure: Structure, field: app.ForceField, called: str, atom_type: str
) -> MolecularSystemError:
    """A type of atoms that some of the files know and one that comes with them does not."""
    known = {t.name for t in field._templates.values() if any(a.type == atom_type for a in t.atoms)}
    labels = Labels(structure.topology, structure.names)
    residues = [r for r in structure.topology.residues() if r.name in known]
    among = f", as in {labels.residue(residues[0])}" if residues else ""
    return MolecularSystemError(
        where,
        f"of the files {called} one, such as that of the solvent, has no parameters for atoms of the type "
        f"{atom_type}{among}",
        "take files of one family that each describe every atom (an implicit solvent and its protein), or "
        "take these atoms out of the structure",
    )


def _chosen(
    where: Path | str,
    structure: Structure,
    field: app.ForceField,
    index: int,
    names: list[str],
    preferred: Sequence[str],
) -> Choice:
    """One of the templates that fit residue ``index`` (of several residues together below 0), and why.

    A template is taken by itself if it alone has the atom types that the force field gives the residues by
    their own names elsewhere: a peptide, not the small molecule that looks alike.
    """
    residues = list(structure.topology.residues())
    concerned = [residues[index]] if index >= 0 else residues
    labels = Labels(structure.topology, structure.names)
    what = labels.residue(concerned[0])
    what += f" to {labels.residue(concerned[-1])}" if len(concerned) > 1 else ""
    if asked := [name for name in preferred if name in names]:
        return Choice(asked[0])
    own = {
        atom.type
        for residue in concerned
        if residue.name in field._templates
        for atom in field._templates[residue.name].atoms
    }
    alike = [name for name in names if own and own & {a.type for a in field._templates[name].atoms}]
    if len(alike) != 1:
        raise MolecularSystemError(
            where,
            f"{' and '.join(names)} of the force field all fit {what} and differ in their parameters",
            f"choose one by {RESIDUE_TEMPLATES}=[{names[0]}]",
        )
    others = [name for name in names if name != alike[0]]
    line = (
        f"{where}: {what} fits {' and '.join(names)} of the force field; {alike[0]} is taken, which has the "
        f"parameters of its residues elsewhere ({RESIDUE_TEMPLATES}=[{others[0]}] takes the other)"
    )
    return Choice(alike[0], line)


def _force_field(files: Sequence[Path | str]) -> app.ForceField:
    if not files:
        raise MolecularSystemError("force field", "none is given", "name OpenMM XML files")
    for file in files:
        if Path(file).exists():
            checked_file(file, file_kinds.FORCE_FIELD)
            _check_xml(Path(file))
        elif str(file) not in shipped_force_fields():
            close = _close(str(file))
            raise MolecularSystemError(
                f"force field {file}",
                "no such file, nor one that comes with OpenMM",
                f"did you mean {close}?" if close else "such as amber14-all.xml or amber99sbildn.xml",
            )
    where = f"force field {', '.join(map(str, files))}"
    try:
        return app.ForceField(*map(str, files))
    except KeyError as error:
        missing = f"lacks an attribute or an atom type that it needs ({error.args[0]})"
        raise MolecularSystemError(where, missing, "mend the file, or add the one that defines it") from error
    except Exception as error:  # OpenMM raises whatever it comes upon
        twice = "already exists" in str(error) or "multiple" in str(error).lower()
        raise MolecularSystemError(
            where,
            f"describes something twice ({said_by(error)})"
            if twice
            else f"cannot be read ({said_by(error)})",
            "take one of the files" if twice else "mend the file",
        ) from error


def _check_xml(path: Path) -> None:
    try:
        ElementTree.parse(path)
    except ElementTree.ParseError as error:
        raise MolecularSystemError(path, f"is no proper XML ({said_by(error)})", "mend it there") from error


def shipped_force_fields() -> list[str]:
    """Names of the files that OpenMM finds by itself, those of other packages included."""
    folders = [Path(str(app.__file__)).parent / "data"]
    for entry in entry_points(group="openmm.forcefielddir"):
        try:
            folders.append(Path(entry.load()()))
        except Exception:  # a package that is broken offers none
            continue
    return sorted(path.relative_to(folder).as_posix() for folder in folders for path in folder.rglob("*.xml"))


def _close(name: str) -> str:
    """The shipped name that is most like one, in its folder or without."""
    wanted = name.lower().removesuffix(".xml")
    known = {path: path.lower().removesuffix(".xml") for path in shipped_force_fields()}
    tails = {path: stem.rpartition("/")[2] for path, stem in known.items()}
    for match in (lambda stem: stem == wanted, lambda stem: wanted in stem):
        found = [path for path in known if match(known[path]) or match(tails[path])]
        if found:
            return min(found, key=len)
    stems = {stem: path for path, stem in (*tails.items(), *known.items())}
    close = difflib.get_close_matches(wanted, stems, n=1)
    return stems[close[0]] if close else ""
