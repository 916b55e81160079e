"""What `from fdp_core import ...` gives, and what `import fdp_core` alone brings in."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import fdp_core
from fdp_core import checkpoint, config, model
from fdp_core.regions import index

HEAVY = "open_clip torchvision timm sklearn scipy pandas matplotlib seaborn cv2 shapely PIL IPython ipywidgets".split()


def test_the_front_door_gives_the_same_objects_as_their_homes():
    from fdp_core import FDP, Config, Index, load, preset

    homes = (model.FDP, config.Config, index.Index, checkpoint.load, config.preset)
    assert all(mine is theirs for mine, theirs in zip((FDP, Config, Index, load, preset), homes, strict=True))
    assert set(fdp_core.__all__) <= set(dir(fdp_core))
    with pytest.raises(AttributeError, match="no attribute 'Indx'"):
        fdp_core.Indx  # noqa: B018


def test_importing_the_package_brings_in_pytorch_and_nothing_else_that_is_large():
    asked = f"import sys, fdp_core; print([name for name in {HEAVY!r} if name in sys.modules])"
    child = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert child.stdout.strip() == "[]"


def test_ten_lines_search_a_folder(tmp_path):
    for name in "ab":
        Image.fromarray(np.full((64, 64, 3), ord(name), np.uint8)).save(tmp_path / f"{name}.png")
    index = fdp_core.Index.open("memory://", fdp_core.load())
    index.update(tmp_path, progress=False)
    found = index.search("coffee", k=5)
    assert {hit.path.name for hit in found} == {"a.png", "b.png"}
