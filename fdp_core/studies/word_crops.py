"""Reading alone: every annotated word of a set, cut out by its own polygon, is ranked for every query.

This leaves finding out: what remains between this number and that of whole photographs is lost in finding words.
"""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np

from fdp_core.datasets import images
from fdp_core.datasets.protocol import WORD_PROTOCOL, normalise, tokens
from fdp_core.datasets.types import Gallery, Photo, Queries
from fdp_core.evaluation import report
from fdp_core.regions import crops
from fdp_core.regions.system import RegionSystem
from fdp_core.regions.word_finder import MARGIN
from fdp_core.retrieval.vectors import VectorSets


def evaluate(
    system: RegionSystem, gallery: Gallery, queries: Queries, protocol: dict[str, Any], ks: tuple[int, ...] = (1,)
) -> report.Report:
    """Rank the word crops of a gallery for its queries.

    Ignored words, and queries that no single word answers, are left out. The ``protocol`` of the split, as in its
    manifest, says how a word's text becomes a query; ``ks`` are those of recall@k and P@k.

    Raises:
        ValueError: no word answers a query.

    Returns:
        A report over crops in place of photographs; relevant is a crop whose word is the query.
    """
    if protocol.get("queries", {}).get("rule") == "listed":
        protocol = WORD_PROTOCOL  # the files list which photographs answer, and say nothing of single words
    words, cuts, said = [], [], []
    for photo in gallery.photos:
        image = np.asarray(images.open_image(photo.path))
        for n, word in enumerate(photo.words):
            if found := tokens(word, protocol):
                quad = crops.upright_box(word.polygon) if len(word.polygon) != 4 else word.polygon
                quad = crops.grow(quad, MARGIN, MARGIN)  # as the finder's are
                cuts.append(system.cut(image, quad[None])[0])
                words.append(Photo(f"{photo.id}#{n}", photo.path))
                said.append(set(found))
    wanted = [normalise(text, protocol) for text in queries.texts]
    relevant = np.array([[text in some for some in said] for text in wanted], bool).reshape(len(wanted), len(said))
    kept = relevant.any(axis=1)
    if not kept.any():
        raise ValueError(f"{gallery.name}/{gallery.split}: no annotated word answers a query: nothing to rank.")
    groups = {name: np.asarray(members)[kept] for name, members in (queries.groups or {}).items()}
    left = Queries(
        tuple(text for text, fine in zip(queries.texts, kept) if fine),
        relevant[kept],
        f"word crops by the annotated polygons; {queries.protocol}",
        {name: members for name, members in groups.items() if members.any()},
    )
    crops_alone = SimpleNamespace(
        name=f"{system.name}, word crops",
        settings=system.settings,
        encode_queries=lambda texts: system.encode_queries(texts)[:, :-1],  # by cosine alone: no handicap
        encode_gallery=lambda gallery: VectorSets.of(system.encode_crops(np.stack(cuts))),
    )
    return report.evaluate(crops_alone, replace(gallery, photos=tuple(words)), left, ks)
