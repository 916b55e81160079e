"""Small stand-ins: a gallery with queries, a trunk that counts its calls, a system by hand."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from fdp_core.datasets import Gallery, Photo, Queries


def draw(path: Path, seed: int, size: tuple[int, int] = (80, 48)) -> Path:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1] // 8, size[0] // 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize(size).save(path)
    return path


def gallery(folder: Path, count: int = 5, corrupt: tuple[int, ...] = ()) -> Gallery:
    folder.mkdir(parents=True, exist_ok=True)
    photos = []
    for number in range(count):
        path = draw(folder / f"{number:02d}.png", number)
        if number in corrupt:
            path.write_bytes(b"no image at all")
        photos.append(Photo(path.name, path, ()))
    return Gallery("toy", "test", tuple(photos), "manifest", True)


def queries(count: int = 5) -> Queries:
    """Return one query a photograph: ``w0`` wants photograph 0 and so on."""
    return Queries(tuple(f"w{i}" for i in range(count)), np.eye(count, dtype=bool), "toy protocol", {})


class FakeBackbone:
    """Mean colours of the cells as trunk features: [B, 3, G, G]; counts what it computes."""

    name, weights_hash, width, native_grid, device = "fake", "0" * 64, 3, 2, torch.device("cpu")

    def __init__(self):
        self.seen = 0

    def parameters(self):
        return iter([torch.zeros(1)])

    def normalise(self, images):
        return images.permute(0, 3, 1, 2).float() / 255

    def trunk(self, images):
        self.seen += len(images)
        return torch.nn.functional.avg_pool2d(images, 32)

    def zero_shot(self, features):
        return features.flatten(1) - 0.4

    def unknown_letters(self, text):
        return "".join(letter for letter in text if letter == "\u6f22")

    def encode_text(self, texts):
        vectors = [np.random.default_rng(sum(map(ord, text))).normal(size=12) for text in texts]
        return torch.tensor(np.array(vectors), dtype=torch.float32)


class HandSystem:
    """Unit vectors given by hand: photograph n is axis n, query ``w<i>`` is axis i."""

    name, model_hash = "by hand", "hand"

    def __init__(self, count=5, unreadable=()):
        self.count, self.unreadable = count, unreadable
        self.settings = {"backbone": "mini", "weights_hash": "f" * 64, "image_size": 64}

    def encode_gallery(self, gallery):
        features = np.eye(len(gallery.photos), self.count, dtype=np.float32)
        features[list(self.unreadable)] = np.nan
        return features

    def encode_queries(self, texts):
        return np.eye(self.count, dtype=np.float32)[[int(text[1:]) for text in texts]]
