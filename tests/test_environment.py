"""One place for pins, and the files that repeat or use them agree with it."""

import re
import sys
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
OLDEST = "3.11.5"  # the oldest Python that the pins take; soupsieve decides
# what the chapters, the library and the tests import by name
DIRECT = """
torch torchvision open_clip_torch opencv-python-headless scikit-learn scipy matplotlib seaborn pandas
Levenshtein RapidFuzz nbval pytest pytest-timeout pytest-xdist hypothesis jupyterlab papermill jupyter-book pooch
ipywidgets websocket-client
PyYAML jsonschema safetensors pillow lancedb pyarrow filelock openvino psutil tqdm shapely pyclipper ruff ImageHash
""".split()


def pins(lines):
    """Return canonical name -> exact version of requirement lines."""
    found = {}
    for line in lines:
        line = line.split("#")[0].strip()
        if not line or line.startswith("-"):
            continue
        requirement = Requirement(line)
        specs = list(requirement.specifier)
        assert len(specs) == 1 and specs[0].operator == "==" and "*" not in specs[0].version, (
            f"not pinned exactly: {line}"
        )
        name = canonicalize_name(requirement.name)
        assert name not in found, f"pinned twice: {name}"
        found[name] = specs[0].version
    return found


def read(name):
    return pins((ROOT / name).read_text(encoding="utf-8").splitlines())


def conda():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    return environment["dependencies"]


def test_conda_has_the_same_pins():
    listed = next(entry["pip"] for entry in conda() if isinstance(entry, dict))
    assert pins(listed) == read("requirements.txt"), "run `make pins`"


def test_conda_takes_the_python_that_the_package_wants():
    version = (
        next(entry for entry in conda() if str(entry).startswith("python>=")).split(",")[0].removeprefix("python>=")
    )
    assert version == OLDEST
    project, makefile = ((ROOT / name).read_text(encoding="utf-8") for name in ("pyproject.toml", "Makefile"))
    assert f'requires-python = ">={OLDEST}"' in project and f"Python {OLDEST} or newer" in makefile
    assert str(tuple(map(int, OLDEST.split(".")))) in makefile
    assert f"Python {OLDEST} or newer" in (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", sorted(read("requirements.txt")))
def test_every_pin_takes_the_oldest_python(name):
    assert OLDEST in SpecifierSet(metadata.metadata(name).get("Requires-Python") or "")


@pytest.mark.parametrize("name", DIRECT)
def test_what_is_imported_is_pinned(name):
    assert canonicalize_name(name) in read("requirements.txt")


def test_jupyter_book_is_version_1():
    assert read("requirements.txt")["jupyter-book"].startswith("1."), "version 2 ignores _config.yml and builds nothing"


def test_extras_do_not_change_the_main_pins():
    files = [set(read(f"requirements{name}.txt")) for name in ("", "-ocr", "-heic", "-cluster")]
    both = {name for number, one in enumerate(files) for other in files[:number] for name in one & other}
    assert not both, f"pinned in two places: {both}"


def test_the_library_pins_nothing_itself():
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert "==" not in project, "requirements.txt is the one place for pins"


@pytest.mark.parametrize(
    "name",
    [
        "requirements.txt",
        "requirements-ocr.txt",
        "requirements-heic.txt",
        "requirements-cluster.txt",
        "environment.yml",
        "pyproject.toml",
        "Makefile",
    ],
)
def test_no_private_registry_and_no_local_wheels(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    hosts = set(re.findall(r"https?://([\w.-]+)", text))
    assert hosts <= {"download.pytorch.org"}
    assert not re.search(r"find-links|file://|\+cpu|\+cu\d", text)


def test_nothing_of_cuda_is_pinned():
    cuda = [name for name in read("requirements.txt") if name.startswith(("nvidia-", "triton", "cuda-"))]
    assert not cuda, "torch names its own CUDA packages where they are wanted"


def test_this_environment_is_the_pinned_one():
    wrong = {}
    for name, version in read("requirements.txt").items():
        have = metadata.version(name).split("+")[0]
        if have != version:
            wrong[name] = f"{have} instead of {version}"
    assert not wrong, f"{wrong}; run `make test`"
    assert sys.version_info >= tuple(map(int, OLDEST.split(".")))
