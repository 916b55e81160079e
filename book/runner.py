"""Runs notebooks through papermill, once for each change of what decides their outputs."""

from __future__ import annotations

import copy
import hashlib
import os
import platform
import re
import sys
import time
from pathlib import Path
from typing import Any

import nbformat
import papermill
import yaml

from fdp_core.evaluation import results
from fdp_core.files import atomic_write_text
from fdp_core.studies import parameters

# What a chapter's outputs depend on, beside the notebook itself; a cache that ignores the library shows old numbers.
INPUTS = ("fdp_core/**/*", "data_manifests/**/*", "book/results/*.json*", "requirements.txt")
OFFLINE = {"HF_HUB_OFFLINE": "1", "JUPYTER_PREFER_ENV_PATH": "1", "PYDEVD_DISABLE_FILE_VALIDATION": "1"}


class ChapterFailed(RuntimeError):
    """A chapter cannot be run, or its run stopped; the message names the chapter and the reason."""


def known_parameters(notebook: Path) -> dict[str, str]:
    """Return name -> annotation of the parameters that a notebook declares in its tagged cell."""
    cells = [c for c in nbformat.read(notebook, as_version=4).cells if "parameters" in c.metadata.get("tags", [])]
    return parameters.declared(cells[0].source) if cells else {}


def profile_parameters(notebook: Path, profile: str | None) -> dict[str, Any]:
    """Return the parameters of ``notebooks/params/<chapter>.<profile>.yaml``; none where there is no such file.

    Raises:
        ChapterFailed: the file is no mapping, or names a parameter that the notebook does not have.
    """
    if profile is None:
        return {}
    file = notebook.parent / "params" / f"{notebook.stem}.{profile}.yaml"
    if not file.is_file():
        return {}
    values = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    if not isinstance(values, dict):
        raise ChapterFailed(f"{file.name}: expected `name: value` lines.")
    return values


def inputs_hash(root: Path, notebook: Path, values: dict[str, Any]) -> str:
    """Return one hash (hex) of all that decides a chapter's outputs: cells, library, manifests, pins, parameters."""
    digest = hashlib.sha256(repr(sorted(values.items())).encode())
    for cell in nbformat.read(notebook, as_version=4).cells:
        digest.update(f"{cell.cell_type}\0{cell.source}\0{cell.metadata}".encode())
    for pattern in INPUTS:
        for file in sorted(root.glob(pattern)):
            if file.is_file() and "__pycache__" not in file.parts:
                digest.update(str(file.relative_to(root)).encode() + b"\0")
                digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def run(root: Path, notebook: Path, target: Path, values: dict[str, Any] | None = None, force: bool = False) -> bool:
    """Execute a notebook from the project's root, as a reader would, and write the executed copy.

    Args:
        root: the project; the kernel's working folder.
        notebook: the chapter, under ``root``.
        target: the executed copy; replaced only by a run that ended well.
        values: parameters other than the defaults.
        force: run even where nothing has changed since ``target`` was written; else the result is False then.

    Raises:
        ChapterFailed: an unknown or mistyped parameter, a failing cell, or an output that names this machine's folders.
    """
    values = values or {}
    try:
        parameters.validate(values, known_parameters(notebook))
    except parameters.BadParameter as error:
        raise ChapterFailed(f"{notebook.name}: {error}") from None
    key = inputs_hash(root, notebook, values)
    if not force and target.is_file():
        if nbformat.read(target, as_version=4).metadata.get("fdp", {}).get("inputs") == key:
            return False
    running = target.with_name(f".{target.stem}.running.ipynb")
    target.parent.mkdir(parents=True, exist_ok=True)
    os.environ.update(OFFLINE)
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    try:
        papermill.execute_notebook(
            notebook, running, parameters=values, cwd=str(root), kernel_name="python3", progress_bar=False
        )
    except papermill.PapermillExecutionError as error:
        failed = target.parent.parent / "failed" / target.name
        failed.parent.mkdir(parents=True, exist_ok=True)
        os.replace(running, failed)
        where = failed.relative_to(root) if failed.is_relative_to(root) else failed
        raise ChapterFailed(
            f"{notebook.name}, cell [{error.exec_count}]: {error.ename}: {error.evalue}\n  the run up to there: {where}"
        ) from None
    executed = nbformat.read(running, as_version=4)
    _finish(executed, root, notebook, key)
    if names := machine_paths(executed, root):
        running.unlink()
        raise ChapterFailed(f"{notebook.name}: its outputs name folders of this machine: {', '.join(names)}")
    atomic_write_text(target, nbformat.writes(executed))
    running.unlink()
    return True


def run_with_profile(root: Path, notebook: Path, target: Path, profile: str | None, force: bool) -> float:
    """Execute a notebook with a profile's parameters; return the seconds that it took, 0 where nothing has changed.

    Raises:
        ChapterFailed: see :func:`profile_parameters` and :func:`run`.
    """
    begin = time.monotonic()
    ran = run(root, notebook, target, profile_parameters(notebook, profile), force)
    return time.monotonic() - begin if ran else 0.0


def _finish(executed: nbformat.NotebookNode, root: Path, notebook: Path, key: str) -> None:
    """Fold the injected cell, drop papermill's paths and environment, and note where the run took place."""
    for cell in executed.cells:
        if "injected-parameters" in cell.metadata.get("tags", []):
            cell.metadata["tags"] = [*cell.metadata["tags"], "hide-input"]
    kept = ("start_time", "end_time", "duration", "parameters", "version")
    executed.metadata["papermill"] = {k: v for k, v in executed.metadata["papermill"].items() if k in kept}
    executed.metadata["fdp"] = {"inputs": key, "source": notebook.name, **surroundings()}


def surroundings() -> dict[str, Any]:
    """Return what a reader must know of a run: date, commit, device, versions; nothing that names its owner."""
    facts = results.circumstances()
    return {
        "date": facts["date"],
        "commit": f"{(facts['commit'] or 'no commit')[:10]}{' with changes' if facts['dirty'] else ''}",
        "device": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, {facts['device']}",
        "versions": facts["libraries"],
    }


def machine_paths(notebook: nbformat.NotebookNode, root: Path) -> list[str]:
    """Return the folders of this machine (checkout, home) that stand in a notebook's outputs or metadata."""
    text = str([cell.get("outputs", []) for cell in notebook.cells]) + str(notebook.metadata)
    folders = {str(root.resolve()), str(Path.home())} - {"/", "/root"}
    found = {folder for folder in folders if folder in text}
    return sorted(found | set(re.findall(r"/(?:home|Users|root)/[\w.-]+", text)))


def publishable(executed: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Return a copy for the repository: outputs kept; times, papermill's notes and injected cells dropped."""
    clean = copy.deepcopy(executed)
    clean.cells = [c for c in clean.cells if "injected-parameters" not in c.metadata.get("tags", [])]
    for cell in clean.cells:
        for name in ("papermill", "execution"):
            cell.metadata.pop(name, None)
    for name in ("papermill", "fdp"):
        clean.metadata.pop(name, None)
    return clean
