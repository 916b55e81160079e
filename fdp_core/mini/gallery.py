"""Renders the two sets that ship with the project: the ``mini`` gallery (test) and ``mini_train`` (training).

    python -m fdp_core.mini.gallery

Backgrounds are procedural and fonts open, so both sets may be shown and passed on (CC BY 4.0). They ship as files
with checksums because fonts differ between machines: the command documents how they were made.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path

import cv2
import numpy as np

from fdp_core.files import atomic_write_bytes, atomic_write_text, sha256_file
from fdp_core.mini import fonts
from fdp_core.mini.renderer import Renderer, Scene, Sign
from fdp_core.words import ASSETS, english_words

SIZE = 640
# Drawable words: each also appears as a picture without the word, in other images.
DRAWABLE = (
    "coffee", "hotel", "bank", "bus", "taxi", "book", "beer", "phone", "key", "music", "camera", "home", "hospital",
    "bicycle", "food", "clock", "flag", "gift", "truck", "plane", "bell", "ticket", "star", "fire",
)  # fmt: skip
CONTENT = ("office", "school", "market", "pizza", "church", "garage", "lawyer", "salon")
FUNCTION = (
    "the", "and", "of", "for", "with", "to", "in", "on", "at", "by", "from", "or", "not", "all", "this", "your", "our",
    "you", "we", "no", "only", "here", "more", "is",
)  # fmt: skip
PHRASES = (
    "no parking", "for sale", "open daily", "do not enter", "push to open", "free entry", "one way", "car wash",
    "fresh fish", "city hall", "main street", "happy hour",
)  # fmt: skip
ATTRIBUTES = tuple((colour, word) for colour in ("red", "blue", "green", "yellow") for word in ("open", "stop", "exit"))


def plan(rng: np.random.Generator, images: int) -> list[list[Sign]]:
    """Deal what the gallery must hold to ``images`` images, then fill each up with other words.

    Each image gets its signs, larger first.
    """
    must: list[Sign] = []
    for word in (*DRAWABLE, *CONTENT, *FUNCTION):
        must += [_sign(rng, ((word,),)) for _ in range(5)]
    for name in DRAWABLE:
        must += [Sign(height=float(rng.uniform(35, 80)), picture=name) for _ in range(4)]
    for phrase in PHRASES:
        must += [_sign(rng, (tuple(phrase.split()),)) for _ in range(4)]
        # the phrase's words apart, each on a sign of its own: a bag of words is not the phrase
        must += [_sign(rng, ((word,),)) for word in phrase.split() for _ in range(2)]
    for colour, word in ATTRIBUTES:
        must += [_sign(rng, ((word,),), board=colour, low=22) for _ in range(4)]
    order = rng.permutation(len(must))
    deal: list[list[Sign]] = [[] for _ in range(images)]
    for i, j in enumerate(order):
        deal[i % images].append(must[int(j)])
    for signs in deal:
        # the frequency list from rank 3,000 on: fillers seldom are queries; relevance is read off the words
        for _ in range(int(rng.integers(1, 5))):
            signs.append(_sign(rng, ((english_words()[int(rng.integers(3000, 40000))],),)))
        signs.sort(key=lambda sign: -sign.height)
    return deal


def _sign(rng, lines, board=None, low=11):
    return Sign(lines=lines, height=float(np.exp(rng.uniform(np.log(low), np.log(85)))), board=board)


def queries(images: list[dict]) -> list[dict]:
    """Read every query's relevant images off what was drawn and can be seen (never off the plan)."""
    words, boards, signs = defaultdict(set), defaultdict(set), defaultdict(set)
    for image in images:
        for word in image["words"]:
            if not word["ignore"]:
                words[word["text"].lower()].add(image["file"])
                boards[word["colour"], word["text"].lower()].add(image["file"])
        for phrase in image["phrases"]:
            signs[phrase].add(image["file"])
    out = [{"text": w, "group": "content", "relevant": sorted(words[w])} for w in (*DRAWABLE, *CONTENT)]
    out += [{"text": w, "group": "function", "relevant": sorted(words[w])} for w in FUNCTION]
    out += [{"text": p, "group": "phrase", "relevant": sorted(signs[p])} for p in PHRASES]
    out += [
        {"text": f"a {c} sign that says {w}", "group": "attribute", "relevant": sorted(boards[c, w])}
        for c, w in ATTRIBUTES
    ]
    return [query for query in out if query["relevant"]]


def _describe(name: str, scene: Scene) -> dict:
    words = [
        {"text": w.text, "polygon": w.polygon.round(1).tolist(), "ignore": not w.visible, "colour": w.board}
        for w in scene.words
    ]
    found = {p for p in PHRASES if _has_phrase(scene, p)}
    pictures = sorted(p.text for p in scene.pictures if p.visible)
    return {"file": name, "words": words, "pictures": pictures, "phrases": sorted(found)}


def _has_phrase(scene: Scene, phrase: str) -> bool:
    """Say whether the phrase's words stand next to each other in drawing order, all visible."""
    parts, drawn = phrase.split(), scene.words
    for i in range(len(drawn) - len(parts) + 1):
        run = drawn[i : i + len(parts)]
        if [w.text.lower() for w in run] == parts and all(w.visible and w.board == run[0].board for w in run):
            gap = np.linalg.norm(run[0].polygon.mean(0) - run[-1].polygon.mean(0))
            reach = sum(np.ptp(w.polygon, axis=0).max() for w in run)
            if gap < reach:
                return True
    return False


def write(folder: Path, name: str, scenes: list[Scene], quality: int, with_queries: bool) -> None:
    """Write images (JPEG), ``gallery.json`` and ``SHA256SUMS`` to ``folder``."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    images = []
    for i, scene in enumerate(scenes):
        file = f"images/{i:04d}.jpg"
        options = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_OPTIMIZE, 1]
        atomic_write_bytes(folder / file, cv2.imencode(".jpg", scene.image[..., ::-1], options)[1].tobytes())
        images.append(_describe(file, scene))
    table = {"name": name, "images": images, "queries": queries(images) if with_queries else []}
    atomic_write_text(folder / "gallery.json", json.dumps(table, separators=(",", ":")) + "\n")
    files = ["gallery.json", *(image["file"] for image in images)]
    atomic_write_text(folder / "SHA256SUMS", "".join(f"{sha256_file(folder / f)}  {f}\n" for f in files))


def main() -> None:
    """Render both sets."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ASSETS)
    parser.add_argument("--images", type=int, default=150)
    parser.add_argument("--train-images", type=int, default=200)
    parser.add_argument("--seed", type=int, default=2024)
    args = parser.parse_args()
    icon_font = fonts.find_icon_font()
    if icon_font is None:
        parser.error(
            "no icon font found: install Font Awesome 4 (Debian: fonts-font-awesome) or set FDP_FONTS to its folder."
        )
    renderer = Renderer(fonts.find_fonts(), icon_font)
    rng = np.random.default_rng([args.seed, 0])
    scenes = [renderer.compose(rng, SIZE, signs, hard=0.6) for signs in plan(rng, args.images)]
    write(args.out / "mini_gallery", "mini", scenes, 74, True)
    rng = np.random.default_rng([args.seed, 1])
    train = [renderer.scene(rng, SIZE, (10, 18), (9.0, 80.0), hard=0.8) for _ in range(args.train_images)]
    write(args.out / "mini_train", "mini_train", train, 72, False)


if __name__ == "__main__":
    main()
