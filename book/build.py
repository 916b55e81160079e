"""Builds the book: stage the pages, run every chapter, render what comes from files, build strict HTML.

    python book/build.py                     # everything that has changed; HTML in _build/html
    python book/build.py --force             # run every chapter again
    python book/build.py --in-place          # run the chapters with their defaults and store the outputs in notebooks/
    python book/build.py --profile svt       # chapters with notebooks/params/<chapter>.svt.yaml run with it
    python book/build.py --jobs 1            # one chapter after the other; else one a core, four at most

Warnings are errors. Executing belongs to papermill, never to Jupyter Book: its cache does not see that the
library changed.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import nbformat
import yaml

sys.path.insert(0, str(Path(__file__).parent))  # also when this file is loaded from another folder
import check  # noqa: E402
import pages  # noqa: E402
import runner  # noqa: E402

from fdp_core.files import atomic_write_text

ROOT = Path(__file__).resolve().parent.parent


class BuildFailed(RuntimeError):
    """Jupyter Book could not build the staged pages, or built bad ones."""


def contents(root: Path) -> list[str]:
    """Return all pages of the table of contents in reading order, as paths without suffix."""
    toc = yaml.safe_load((root / "book" / "_toc.yml").read_text(encoding="utf-8"))
    chapters = toc.get("chapters", []) + [c for part in toc.get("parts", []) for c in part["chapters"]]
    return [toc["root"]] + [chapter["file"] for chapter in chapters]


def chapters(root: Path) -> list[Path]:
    """Return the notebooks of the table of contents.

    Raises:
        ChapterFailed: the table names a notebook that does not exist, or does not name one that does.
    """
    listed = [root / f"{page}.ipynb" for page in contents(root) if page.startswith("notebooks/")]
    present = set((root / "notebooks").glob("*.ipynb"))
    if absent := [path.name for path in listed if path not in present]:
        raise runner.ChapterFailed(f"book/_toc.yml names notebooks that do not exist: {', '.join(absent)}")
    if unlisted := sorted(path.name for path in present - set(listed)):
        raise runner.ChapterFailed(f"book/_toc.yml does not name: {', '.join(unlisted)}")
    return listed


def stage_pages(root: Path, stage: Path) -> None:
    """Copy configuration and pages to the stage, fresh; executed notebooks there stay."""
    shutil.rmtree(stage / "book", ignore_errors=True)
    code = ("build.py", "check.py", "figures.py", "pages.py", "runner.py", "search_page.py")
    ignore = shutil.ignore_patterns("__pycache__", "results", "_templates", *code)
    shutil.copytree(root / "book", stage / "book", ignore=ignore)
    shutil.copy(root / "_config.yml", stage / "_config.yml")
    wanted = {f"{page}.ipynb" for page in contents(root)}
    for old in (stage / "notebooks").glob("*.ipynb"):
        if f"notebooks/{old.name}" not in wanted:
            old.unlink()


def run_chapters(root: Path, stage: Path, profile: str | None = None, force: bool = False, jobs: int = 1) -> list[str]:
    """Run every chapter into the stage, ``jobs`` at once, going on after a failure.

    Returns:
        One message for each chapter that failed, in reading order.
    """
    listed = chapters(root)
    failures = {}
    processes = multiprocessing.get_context("spawn")  # forking would copy PyTorch's threads
    with ProcessPoolExecutor(jobs, mp_context=processes) as pool:
        try:
            begun = {}
            for notebook in listed:
                target = stage / "notebooks" / notebook.name
                begun[pool.submit(runner.run_with_profile, root, notebook, target, profile, force)] = notebook
            for future in as_completed(begun):
                notebook = begun[future]
                try:
                    seconds = future.result()
                    print(f"{notebook.name}: {f'ran in {seconds:.0f} s' if seconds else 'unchanged'}", flush=True)
                except runner.ChapterFailed as error:
                    failures[notebook] = str(error)
                    print(f"{notebook.name}: FAILED\n  {error}", flush=True)
        except BaseException:  # Ctrl-C too: no further chapter starts
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return [failures[notebook] for notebook in listed if notebook in failures]


def store_outputs(root: Path, stage: Path) -> None:
    """Write the executed chapters back to ``notebooks/``, without times and papermill's notes."""
    for notebook in chapters(root):
        executed = nbformat.read(stage / "notebooks" / notebook.name, as_version=4)
        atomic_write_text(notebook, nbformat.writes(runner.publishable(executed)) + "\n")
        print(f"stored: notebooks/{notebook.name}")


def build_html(root: Path, stage: Path) -> Path:
    """Build the stage with warnings as errors, look the result over and put it in place of the last one.

    Returns:
        The front page, ``_build/html/index.html``.

    Raises:
        BuildFailed: Jupyter Book warned or failed, or a page is missing or loads something from elsewhere.
    """
    out, made = root / "_build", root / "_build" / "_build"
    shutil.rmtree(made, ignore_errors=True)
    program = str(Path(sys.executable).parent / "jupyter-book")
    places = ["--config", "_config.yml", "--toc", "book/_toc.yml", "--path-output", ".."]
    strict = ["-W", "-n", "--keep-going", "--all", "-q"]
    # a user's Jupyter settings must not change the pages
    environment = os.environ | runner.OFFLINE
    done = subprocess.run(
        [program, "build", ".", *places, *strict], cwd=stage, env=environment, text=True, capture_output=True
    )
    if done.returncode:
        raise BuildFailed(f"Jupyter Book stopped:\n{done.stdout}{done.stderr}")
    # version 2 returns 0 and builds nothing from _config.yml
    if wrong := check.problems(made / "html", contents(root), [str(root)]):
        raise BuildFailed("the built pages are not good:\n" + "\n".join(wrong))
    shutil.rmtree(out / "html", ignore_errors=True)
    os.replace(made / "html", out / "html")
    shutil.rmtree(made, ignore_errors=True)
    return out / "html" / "index.html"


def main(arguments: list[str] | None = None, root: Path = ROOT) -> int:
    """Run the command line; return the exit status (0: the book is built and everything in it is from this run)."""
    parser = argparse.ArgumentParser(description="Run the chapters and build the book.")
    parser.add_argument("--force", action="store_true", help="run chapters even where nothing changed")
    parser.add_argument("--in-place", action="store_true", help="store the outputs in notebooks/; no HTML")
    parser.add_argument("--profile", help="run with notebooks/params/<chapter>.PROFILE.yaml where that exists")
    parser.add_argument("--jobs", type=int, default=min(4, os.cpu_count() or 1), help="chapters at once (%(default)s)")
    options = parser.parse_args(arguments)
    if options.jobs < 1:
        parser.error(f"--jobs {options.jobs}: one chapter at once, at least")
    stage = root / "_build" / "stage"
    if options.in_place and options.profile:
        parser.error("--in-place stores the outputs of the defaults: leave --profile away")
    try:
        stage_pages(root, stage)
        records = (
            root / "book" / "results" if options.in_place else pages.gather_records(root, root / "_build" / "results")
        )
        os.environ["FDP_RESULTS"] = str(records)  # read by the chapters' kernels
        if options.jobs > 1:
            os.environ.setdefault("OMP_NUM_THREADS", "1")  # the cores are taken by the chapters beside
        failures = run_chapters(root, stage, options.profile, options.force or options.in_place, options.jobs)
        if failures:
            print("\nNo book: these chapters failed.\n" + "\n".join(f"- {line}" for line in failures), file=sys.stderr)
            return 1
        if options.in_place:
            store_outputs(root, stage)
            return 0
        pages.render(root, stage, records)
        front = build_html(root, stage)
    except (BuildFailed, pages.PageError, runner.ChapterFailed) as error:
        print(f"No book: {error}", file=sys.stderr)
        return 1
    print(f"The book: {front.relative_to(root)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
