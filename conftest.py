"""Shared by all tests: no network, one place for real data, and an honest summary of what could not be checked."""

import importlib.util
import os
import shutil
import tempfile
from pathlib import Path

import hypothesis
import matplotlib
import pytest

import fdp_core  # noqa: F401  (before any test module: it repairs torchvision beside a CPU build of PyTorch)

ROOT = Path(__file__).parent
OFFLINE = ROOT / "tests" / "offline"
matplotlib.use("Agg")
# property-based tests draw the same examples at every run: a suite that passes goes on passing
hypothesis.settings.register_profile("same", derandomize=True)
hypothesis.settings.load_profile("same")


def _load(name: str, path: Path):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


offline = _load("fdp_offline", OFFLINE / "sitecustomize.py")
printed = _load("fdp_printed", ROOT / "tests" / "printed.py")


DATA = Path(os.environ.get("FDP_DATA") or ROOT / "data")  # as the run was started


def data_folder() -> Path:
    """Return where real data sets are looked for: FDP_DATA, else ``data/`` in the checkout."""
    return DATA


def pytest_configure(config):
    """Block the network here and in every process that a test starts; prepare nbval."""
    offline.block()
    paths = [str(OFFLINE), str(ROOT), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    os.environ.update(HF_HUB_OFFLINE="1", JUPYTER_PREFER_ENV_PATH="1", PYDEVD_DISABLE_FILE_VALIDATION="1")
    notebooks = getattr(config.option, "nbval", False) or getattr(config.option, "nbval_lax", False)
    if notebooks and getattr(config.option, "dist", "no") == "no":  # else its workers do this, each for itself
        if not config.option.nbval_sanitize_with:
            config.option.nbval_sanitize_with = str(ROOT / "tests" / "nbval_sanitize.cfg")
        _forgive_rounding()
        # stored outputs are those of the data that come along: a real set that lies here would add rows
        config.fdp_no_data = os.environ["FDP_DATA"] = tempfile.mkdtemp(prefix="fdp-no-data-")
        if "FDP_RESULTS" not in os.environ:  # checking the notebooks must not change the committed records
            config.fdp_scratch = os.environ["FDP_RESULTS"] = tempfile.mkdtemp(prefix="fdp-results-")


def _forgive_rounding():
    """Let nbval compare printed numbers with a tolerance."""
    from nbval.plugin import IPyNbCell

    sanitize = IPyNbCell.sanitize

    def sanitized(cell, text):
        clean = sanitize(cell, text)
        return printed.Printed(clean) if isinstance(clean, str) else clean

    IPyNbCell.sanitize = sanitized


def pytest_runtest_setup(item):
    """Give each notebook the committed records, so that none sees what another has just measured."""
    scratch, checked = getattr(item.config, "fdp_scratch", None), getattr(item.config, "fdp_checked", None)
    if scratch is not None and item.path.suffix == ".ipynb" and item.path != checked:
        item.config.fdp_checked = item.path
        shutil.rmtree(scratch)
        shutil.copytree(ROOT / "book" / "results", scratch)


def pytest_unconfigure(config):
    """Remove the scratch copy of the records, and open the network again."""
    for name in ("fdp_scratch", "fdp_no_data"):
        if scratch := getattr(config, name, None):
            shutil.rmtree(scratch, ignore_errors=True)
    offline.allow()


@pytest.fixture
def own_style():
    """Close a test's figures, and hold it to leaving matplotlib's style as it was."""
    import matplotlib.pyplot as plt

    before = dict(plt.rcParams)
    yield
    assert dict(plt.rcParams) == before, "the style leaked"
    plt.close("all")


@pytest.fixture(autouse=True)
def _network(request):
    """Open the network for tests marked ``network`` only."""
    if request.node.get_closest_marker("network") is None:
        yield
        return
    offline.allow()
    yield
    offline.block()


@pytest.fixture
def real_data():
    """Give a function that returns the folder of a real set, or skips the test where it is missing."""

    def folder(name: str) -> Path:
        path = data_folder() / name
        if not path.is_dir():
            pytest.skip(f"real data missing: {name} (looked in FDP_DATA/{name})")
        return path

    return folder


def pytest_terminal_summary(terminalreporter):
    """Say in one line which real sets the run has seen, and which claims it has therefore not checked."""
    from fdp_core.datasets.manifest import all_manifests

    sets = [entry for entry in all_manifests() if not entry.shipped]
    missing = [entry.name for entry in sets if entry.lacking(root=data_folder())]
    present = [entry.name for entry in sets if entry.name not in missing]
    terminalreporter.section("real data")
    terminalreporter.line(f"present: {', '.join(present) or 'none'}")
    if missing:
        terminalreporter.line(f"missing: {', '.join(missing)}: what needs them was skipped, not passed.")
        terminalreporter.line("Set FDP_DATA to their folder; `python -m fdp_core.datasets list` says how to get them.")
