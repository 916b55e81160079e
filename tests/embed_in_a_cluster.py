"""Systems that test_cluster lets Ray's workers make: one whose first worker is killed at its work, and one at rest."""

import os
import signal
from pathlib import Path

import tiny

from fdp_core.retrieval import systems


class Mortal:
    """A system that kills its process when it first encodes, unless another has done so."""

    def __init__(self, grave):
        self.system, self.grave = make(), Path(grave)
        self.model_hash = self.system.model_hash

    def encode_gallery(self, gallery):
        try:
            self.grave.touch(exist_ok=False)
        except FileExistsError:
            return self.system.encode_gallery(gallery)
        os.kill(os.getpid(), signal.SIGKILL)


class Fails:
    """A system that is not asked for anything."""

    def encode_gallery(self, gallery):
        raise AssertionError("nothing is left to encode")


def make():
    return systems.zero_shot(tiny.backbone(), 64, progress=False)
