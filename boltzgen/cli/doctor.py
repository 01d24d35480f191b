"""``boltzgen doctor``: what of all that boltzgen needs is there, and what to do about the rest."""

from __future__ import annotations

import importlib
import itertools
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from boltzgen import __version__
from boltzgen.runtime.ambertools import INSTALL, PROGRAMS, programs
from boltzgen.runtime.cores import usable_cores
from boltzgen.runtime.files import nearest_existing, size

Status = Literal["ok", "note", "missing", "wrong"]

DISTRIBUTION = "boltzgen-diffclf"
IMPORTED = ("torch", "openmm", "mdtraj", "e3nn", "torch_geometric", "lightning")
"""Packages whose installation is tried out by importing them."""
WRITTEN_BYTES = 32_000_000
PROBE = "#include <Python.h>\n{include}\nint probe() {{ return 0; }}\n"
"""What a compiler must cope with for ``torch.compile``: C++ with the headers of Python and OpenMP."""


@dataclass(frozen=True)
class Finding:
    """One line: ``missing`` and ``wrong`` keep boltzgen from working, a ``note`` makes it slower."""

    what: str
    found: str
    status: Status = "ok"
    advice: str = ""


def examine(directory: Path) -> list[Finding]:
    """Look at the installation, the machine and ``directory``; takes seconds, most of them imports."""
    return [
        _python(),
        *_packages(),
        _platforms(),
        _cuda(),
        _compiler(),
        _vectors(),
        _shadows(directory),
        _small_molecules(),
        _cores(),
        _memory(),
        _disk(directory),
        _cache(),
    ]


def usable(findings: list[Finding]) -> bool:
    """Whether nothing that is needed is missing or wrong."""
    return all(finding.status in ("ok", "note") for finding in findings)


def lines(findings: list[Finding]) -> Iterator[str]:
    """The table, advice below the line that it belongs to."""
    width = max(len(finding.what) for finding in findings)
    for finding in findings:
        yield f"{finding.what:<{width}}  {finding.status:<7}  {finding.found}"
        if finding.advice:
            yield f"{'':<{width}}           {finding.advice}"


def _python() -> Finding:
    return Finding("Python", f"{platform.python_version()} ({sys.executable})")


def _packages() -> Iterator[Finding]:
    yield Finding("boltzgen", __version__)
    if _version("boltzgen"):
        advice = "another project of the same import name: pip uninstall boltzgen, then reinstall this one"
        yield Finding("boltzgen on PyPI", _version("boltzgen"), "wrong", advice)
    for module in IMPORTED:
        name = module.replace("_", "-")
        try:
            importlib.import_module(module)
        except Exception as error:
            says = f"{type(error).__name__}: {error}".splitlines()[0]
            yield Finding(name, says, "missing", f"pip install --force-reinstall {name}")
        else:
            yield Finding(name, _version(name) or "installed")
    required = {re.split(r"[^\w.-]", text, maxsplit=1)[0] for text in _requirements()}
    absent = sorted(name for name in required if not _version(name))
    if absent:
        yield Finding("other packages", ", ".join(absent), "missing", f"pip install {' '.join(absent)}")
    else:
        yield Finding("other packages", f"all of {len(required)} there")


def _platforms() -> Finding:
    openmm = _imported("openmm")
    if openmm is None:
        return Finding("OpenMM platforms", "none", "missing", "pip install --force-reinstall openmm")
    names = [openmm.Platform.getPlatform(i).getName() for i in range(openmm.Platform.getNumPlatforms())]
    return Finding("OpenMM platforms", ", ".join(names))


def _cuda() -> Finding:
    torch = _imported("torch")
    if torch is None or not torch.cuda.is_available():
        return Finding("CUDA", "no; networks run on the CPU")
    return Finding("CUDA", f"yes, {torch.cuda.get_device_name(0)}")


def _compiler() -> Finding:
    """The C++ compiler that torch.compile would call, tried on a few lines."""
    mac = sys.platform == "darwin"
    command = shlex.split(os.environ.get("CXX", "clang++" if mac else "g++"))
    advice = (
        "without it networks run several times slower; install a C++ compiler and the headers of Python "
        "(apt install g++ python3-dev; conda install cxx-compiler; xcode-select --install)"
    )
    if not shutil.which(command[0]):
        return Finding("C++ compiler", f"no {command[0]}", "note", advice)
    with tempfile.TemporaryDirectory() as scratch:
        options = ["-shared", "-fPIC", "-o", str(Path(scratch) / "probe.so"), "-x", "c++", "-"]
        options += [f"-I{sysconfig.get_path('include')}", *([] if mac else ["-fopenmp"])]
        code = PROBE.format(include="" if mac else "#include <omp.h>")
        result = subprocess.run([*command, *options], input=code, capture_output=True, text=True)
    if result.returncode != 0:
        errors = [line for line in result.stderr.splitlines() if "error" in line] or ["it fails"]
        return Finding("C++ compiler", f"{command[0]}: {errors[0]}", "note", advice)
    return Finding("C++ compiler", shutil.which(command[0]) or command[0])


def _vectors() -> Finding:
    """The vector instructions that compiled networks would use; torch finds out by compiling."""
    try:
        found = str(importlib.import_module("torch._inductor.cpu_vec_isa").pick_vec_isa())
    except Exception as error:
        found = f"unknown ({type(error).__name__})"
    if found.startswith(("INVALID", "unknown")):
        advice = "compiled networks are slower without; see the C++ compiler, and shadowed modules below"
        return Finding("vector instructions", found, "note", advice)
    return Finding("vector instructions", found)


def _shadows(directory: Path) -> Finding:
    """Files that are found before a module of the standard library, here or on the import path."""
    library = Path(sysconfig.get_path("stdlib")).resolve()
    entries = [Path(entry).resolve() for entry in sys.path]
    before = itertools.takewhile(lambda entry: entry != library, entries)
    found = [
        path
        for place in dict.fromkeys([directory.resolve(), *before])
        if place.is_dir()
        for path in sorted(place.iterdir())
        if path.stem in sys.stdlib_module_names
        and (path.suffix == ".py" or (path.is_dir() and (path / "__init__.py").exists()))
    ]
    if not found:
        return Finding("shadowed modules", "none")
    advice = "hides the standard library from compilers and workers that start here; rename or move it"
    return Finding("shadowed modules", ", ".join(map(str, found)), "wrong", advice)


def _small_molecules() -> Finding:
    """What `boltzgen new` makes parameters of small molecules with."""
    names = ["RDKit"] * (_imported("rdkit") is None) + [n for n in PROGRAMS if n not in programs()]
    if names:
        return Finding("small molecules", f"no {', '.join(names)}", "note", f"for SMILES and SDF: {INSTALL}")
    return Finding("small molecules", f"RDKit, {programs()['antechamber']}")


def _cores() -> Finding:
    return Finding("cores", f"{usable_cores()} of {os.cpu_count()}")


def _memory() -> Finding:
    psutil = _imported("psutil")
    if psutil is None:
        return Finding("memory", "unknown without psutil", "note")
    memory = psutil.virtual_memory()
    found = f"{size(memory.available)} free of {size(memory.total)}"
    if memory.available < 2e9:
        return Finding("memory", found, "note", "2 GB are little even for a small molecule")
    return Finding("memory", found)


def _disk(directory: Path) -> Finding:
    free = shutil.disk_usage(directory).free
    try:
        with tempfile.TemporaryFile(dir=directory) as stream:
            started = time.perf_counter()
            stream.write(os.urandom(WRITTEN_BYTES // 32) * 32)
            stream.flush()
            os.fsync(stream.fileno())
            speed = WRITTEN_BYTES / (time.perf_counter() - started)
    except OSError as error:
        advice = "run elsewhere, or give --out a directory that can be written"
        return Finding("disk here", f"cannot write ({error.strerror})", "note", advice)
    found = f"{size(free)} free, {size(speed)}/s written"
    if free < 1e9:
        return Finding("disk here", found, "note", "a run of a small molecule writes some 100 MB")
    return Finding("disk here", found)


def _cache() -> Finding:
    """Where torch keeps what it has compiled; a file system that forbids execution is of no use there."""
    try:
        default = importlib.import_module("torch._inductor.runtime.cache_dir_utils").default_cache_dir
        path = Path(os.environ.get("TORCHINDUCTOR_CACHE_DIR") or default())
    except Exception as error:
        return Finding("compiler cache", f"unknown ({type(error).__name__})", "note")
    place = nearest_existing(path)
    if not os.access(place, os.W_OK) or os.statvfs(place).f_flag & getattr(os, "ST_NOEXEC", 0):
        advice = "nothing can be written or executed there; set TORCHINDUCTOR_CACHE_DIR to another directory"
        return Finding("compiler cache", str(path), "note", advice)
    return Finding("compiler cache", str(path))


def _imported(name: str) -> Any:
    """A module, or None where it cannot be imported."""
    try:
        return importlib.import_module(name)
    except Exception:
        return None


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _requirements() -> list[str]:
    """What boltzgen itself requires, without extras; nothing from a checkout that is not installed."""
    try:
        return [text for text in metadata.requires(DISTRIBUTION) or [] if "extra ==" not in text]
    except metadata.PackageNotFoundError:
        return []
