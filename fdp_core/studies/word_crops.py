"""Reading alone: every annotated word of a set, cut out by its own polygon, is ranked for every query.

This leaves finding out: what remains between this number and that of whole photographs is lost in finding words.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fdp_core.datasets import images
from fdp_core.datasets.protocol import WORD_PROTOCOL, normalise, tokens
from fdp_core.evaluation import metrics
from fdp_core.evaluation.report import Report
from fdp_core.regions import crops
from fdp_core.retrieval.vectors import VectorSets


def evaluate(system: Any, gallery: Any, queries: Any, protocol: dict[str, Any], ks: tuple[int, ...] = (1,)) -> Report:
    """Rank the word crops of a gallery for its queries.

    Args:
        system: a :class:`fdp_core.regions.system.RegionSystem`.
        gallery: photographs with words and polygons; ignored words are left out.
        queries: Q texts; one that no single word answers is left out.
        protocol: of the split, as in its manifest: how a word's text becomes a query.
        ks: the k of recall@k and P@k.

    Raises:
        ValueError: no word answers a query.

    Returns:
        A report over crops in place of photographs; relevant is a crop whose word is the query.
    """
    if protocol.get("queries", {}).get("rule") == "listed":
        protocol = WORD_PROTOCOL  # the files list which photographs answer, and say nothing of single words
    ids, cuts, said = [], [], []
    for photo in gallery.photos:
        image = np.asarray(images.open_image(photo.path))
        for n, word in enumerate(photo.words):
            if found := tokens(word, protocol):
                quad = crops.upright_box(word.polygon) if len(word.polygon) != 4 else word.polygon
                cuts.append(system.cut(image, quad[None])[0])
                ids.append(f"{photo.id}#{n}")
                said.append(set(found))
    asked = [normalise(text, protocol) for text in queries.texts]
    relevant = np.array([[text in words for words in said] for text in asked], bool).reshape(len(asked), len(said))
    kept = relevant.any(axis=1)
    if not kept.any():
        raise ValueError(f"{gallery.name}/{gallery.split}: no annotated word answers a query: nothing to rank.")
    texts = [text for text, fine in zip(queries.texts, kept) if fine]
    vectors = VectorSets.of(system.encode_crops(np.stack(cuts)))
    scores = vectors.scores(system.encode_queries(texts)).astype(float)
    relevant = relevant[kept]
    ap = metrics.average_precisions(relevant, scores)
    groups = {name: np.asarray(members)[kept] for name, members in (queries.groups or {}).items()}
    groups = {name: members for name, members in groups.items() if members.any()}
    return Report(
        system=f"{system.name}, word crops",
        set=gallery.name,
        split=gallery.split,
        protocol=f"word crops by the annotated polygons; {queries.protocol}",
        manifest_hash=gallery.manifest_hash,
        texts=tuple(texts),
        ids=tuple(ids),
        ap=ap,
        mean_ap=float(ap.mean()),
        recall_at={k: metrics.recall_at(relevant, scores, k) for k in ks},
        precision_at={k: metrics.precision_at(relevant, scores, k) for k in ks},
        groups=metrics.group_means(ap, groups),
        scores=scores,
        relevant=relevant,
        groups_from=dict.fromkeys(groups, "set"),
        settings=dict(system.settings),
    )
