"""Runs of the ablation grid: train a row from cached features, measure it on several sets, make one record for each.

    FDP_DATA=... python -m fdp_core.studies.ablation_runs --sets mini,svt --seeds 0,1,2

runs all rows, one line a run in book/results/ablations.jsonl, and resumes after an interruption: a run of the same
switches, seed, weights and photographs that has its record is not repeated. The rows of the parts that the paper names
come first, for all seeds, then what costs more, then the finer switches. Test sets are measured here; nothing is chosen
by them.
"""

from __future__ import annotations

import argparse
import hashlib
import time
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import special

from fdp_core import backbones, datasets, distract, prompt, words
from fdp_core.config import Config
from fdp_core.datasets import Gallery, Queries
from fdp_core.evaluation import metrics, provenance, results
from fdp_core.evaluation.report import Report, evaluate, kind_groups
from fdp_core.model import FDP
from fdp_core.retrieval import geometry
from fdp_core.retrieval.features import FeatureStore, trunk_features
from fdp_core.retrieval.systems import fdp
from fdp_core.studies import ablation_grid, attention_study
from fdp_core.studies.ablation_grid import FULL, REPLACED, Row, config_hash, identity_of
from fdp_core.training import loop, samples

MAPS = ("annotated", "shuffled", "even")  # text maps that take the place of the localiser's, at test time only
_SURE = 20.0  # a text logit with σ = 1 in float32: no cell is held back


@torch.inference_mode()
def text_maps(how: str, model: FDP, gallery: Gallery, store: FeatureStore, seed: int = 0) -> np.ndarray:
    """Make text maps for the experiment "an accurate localiser against a random one".

    Args:
        how: "learned", the localiser's own; "annotated", what it was taught to say, drawn from the photograph's
            own polygons; "shuffled", its own values at random cells; "even", the same everywhere, so no shift.
        model: in eval mode.
        gallery: N photographs, with words for "annotated"; ``store`` their features.
        seed: of the shuffling.

    Returns:
        [N, G, G] float32, logits; zeros for photographs that could not be read.

    Source: method.md, section 8, first experiment (1).
    """
    if how not in ("learned", *MAPS):
        raise ValueError(f"Text map is {how!r}; expected 'learned' or one of {', '.join(MAPS)}.")
    if how == "annotated" and not any(photo.words for photo in gallery.photos):
        raise ValueError(f"{gallery.name} annotates no words: there is no map to draw from it.")
    grid, settings = store.array.shape[-1], model.config
    maps = np.zeros((len(store), grid, grid), np.float32)
    good = np.flatnonzero(store.ok)
    if how == "even":
        maps[good] = _SURE
    elif how == "annotated":
        for row in good:
            drawn = (gallery.photos[row].words, store.geometries[row], grid)
            share, _ = geometry.target_maps(*drawn, settings.shrink_ratio, settings.target_pool)
            maps[row] = special.logit(share.clip(0.01, 0.99))
    else:
        maps = np.nan_to_num(store.encode(lambda features, _: model.localise(features)))
    return attention_study.shuffled(maps, seed) if how == "shuffled" else maps


def map_auc(maps: np.ndarray, annotated: np.ndarray) -> dict[str, float] | None:
    """Measure how well text maps [N, G, G] rank cells with text above cells without: AUC, 0.5 by chance.

    Text is where ``annotated``, [N, G, G] by :func:`text_maps`, is above its lowest value.

    Returns:
        ``mean`` over the photographs that hold cells of both kinds, ``from`` and ``to`` of its 95 % interval over them;
        None without such photographs.
    """
    inside = (annotated > annotated.min()).reshape(len(annotated), -1)
    both = np.flatnonzero(inside.any(axis=1) & ~inside.all(axis=1))
    if not len(both):
        return None
    areas = np.array([attention_study.point_auc(maps[row].ravel(), inside[row].astype(float))[0] for row in both])
    low, high = metrics.bootstrap_interval(areas)
    return {"mean": float(areas.mean()), "from": low, "to": high}


@torch.inference_mode()
def preferred_word(model: FDP, encoded: np.ndarray, gallery: Gallery, queries: Queries) -> np.ndarray:
    """Measure whether a photograph is nearer to its word than to words of a small edit distance.

    Args:
        model: encodes the words.
        encoded: float [N, D], the photographs; NaN rows count as wrong.
        gallery: N photographs; their words are no distractors of one another.
        queries: Q texts and their [Q, N] relevance.

    Returns:
        float [Q], the share of a query's photographs that prefer it to all its distractors, at most four of the nearest
        words of the lexicon; NaN without distractors.

    Source: method.md, section 8, first experiment (3).
    """
    candidates = 5
    lent = [word for word in words.english_words()[: loop.LEXICON_SIZE] if len(word) >= words.MIN_LENGTH]
    inside = [{words.fold(word.text) for word in photo.words} for photo in gallery.photos]
    barred = [set().union(*(inside[n] for n in np.flatnonzero(row))) for row in queries.relevant]
    chosen = distract.Distractors(lent, queries.texts, candidates).sample(list(queries.texts), barred, "told apart")
    texts = model.encode_queries(chosen.flat()).cpu().numpy().reshape(len(queries), candidates, -1)
    share = np.full(len(queries), np.nan)
    for row, valid in enumerate(chosen.valid.numpy()):
        if valid.sum() > 1:
            cosine = encoded[queries.relevant[row]] @ texts[row][valid].T
            share[row] = (cosine[:, :1] > cosine[:, 1:]).all(axis=1).mean()
    return share


@dataclass
class Lab:
    """What all runs share: backbone, training photographs, the sets to measure on, caches.

    Attributes:
        backbone: frozen.
        lessons: training galleries.
        sets: name -> (gallery, queries).
        cache_dir: folder of the trunk's features; None keeps them in memory.
        progress: show progress bars.
    """

    backbone: backbones.Backbone
    lessons: Sequence[Gallery]
    sets: dict[str, tuple[Gallery, Queries]]
    cache_dir: Path | None = None
    progress: bool = False
    _stores: dict[Any, FeatureStore] = field(default_factory=dict)
    _starts: dict[Any, dict[str, Any]] = field(default_factory=dict)
    _trained: dict[str, tuple[FDP, loop.History | None, float]] = field(default_factory=dict)
    _kinds: dict[str, np.ndarray] = field(default_factory=dict)

    def store(self, gallery: Gallery, settings: Config, fit: str | None = None) -> FeatureStore:
        """Return the trunk's features of a gallery at the settings' size; without ``fit`` as photographs are ranked."""
        key = (gallery.name, gallery.split, settings.image_size, fit or settings.retrieval_fit)
        if key not in self._stores:
            self._stores[key] = trunk_features(self.backbone, gallery, *key[2:], self.cache_dir, self.progress)
        return self._stores[key]

    def model(self, settings: Config) -> FDP:
        """Return an untrained model with its clusters."""
        with warnings.catch_warnings():  # chapter 03 shows how the anchors fall
            warnings.simplefilter("ignore", UserWarning)
            return FDP(self.backbone, settings, words.frequent_words(words.count_words(self.lessons)))

    def kinds(self, name: str) -> np.ndarray:
        """Return one split of a set's queries into function (0) and content (1) for all rows alike: int [Q]."""
        if name not in self._kinds:
            self._kinds[name] = self.model(Config()).kinds_of(self.sets[name][1].texts).numpy()
        return self._kinds[name]

    def facts(self) -> dict[str, str]:
        """Return what every record of this lab has in common: backbone, its weights, the training photographs."""
        told = "+".join(f"{lesson.name}/{lesson.split}" for lesson in self.lessons)
        digest = hashlib.sha256("".join(lesson.manifest_hash for lesson in self.lessons).encode()).hexdigest()
        weights = self.backbone.weights_hash
        return {"backbone": self.backbone.name, "weights_hash": weights, "train_set": told, "train_hash": digest[:16]}


def train(lab: Lab, settings: Config) -> tuple[FDP, loop.History | None, float]:
    """Train one model; it is, to the bit, what :func:`fdp_core.training.loop.train` gives; ``epochs`` 0 trains nothing.

    The lab keeps the two latest models, so that a pair that is compared is trained once.

    Returns:
        (the model in eval mode, its history or None, seconds of CPU).
    """
    key = config_hash(settings)
    if key not in lab._trained:
        begin = time.process_time()
        trained = _train(lab, settings)
        lab._trained = dict([*lab._trained.items()][-1:])
        lab._trained[key] = (*trained, time.process_time() - begin)
    return lab._trained[key]


def _train(lab: Lab, settings: Config) -> tuple[FDP, loop.History | None]:
    model = lab.model(settings).eval()
    if settings.epochs == 0:
        return model, None
    released = settings.validation_share == 0  # the released code learns dictionary words only
    dictionary = words.english_words() if released else None
    stores = [lab.store(lesson, settings, settings.fit) for lesson in lab.lessons]
    recipe = settings
    if model.prompt is not None and settings.prompt_start == "neutral":
        # Neutral contexts cost as much as half an epoch and are the same for all rows of a seed: made once.
        data = samples.build(lab.lessons, stores, settings, dictionary)
        kept = set(data.split(settings.validation_share, settings.seed)[0])
        learned = [word for image, word in data.samples if image in kept]
        lengths = (settings.prompts, settings.context_function, settings.context_content)
        key = (*lengths, settings.seed, *sorted(set(learned)))
        if key not in lab._starts:
            prompt.start_neutral(model.prompt, lab.backbone, learned, seed=settings.seed)
            lab._starts[key] = {name: value.clone() for name, value in model.prompt.state_dict().items()}
        model.prompt.load_state_dict(lab._starts[key])
        recipe = settings.replace(prompt_start="random")  # leaves the contexts as they are
    history = loop.train(model, lab.lessons, recipe, progress=lab.progress, stores=stores, dictionary=dictionary)
    return model, history


def rank(
    model: FDP,
    store: FeatureStore,
    gallery: Gallery,
    queries: Queries,
    maps: np.ndarray | None = None,
    kinds: np.ndarray | None = None,
) -> tuple[Report, np.ndarray]:
    """Evaluate a model on a gallery of cached features, with other text maps [N, G, G] and kinds [Q] where given.

    Returns:
        (the report, the gallery's vectors [N, D]).
    """
    encoded, system = attention_study.encode(model, store, maps), fdp(model)
    system.encode_gallery = lambda _: encoded
    return evaluate(system, gallery, queries, kinds=kinds), encoded


_SIMILAR = ("everything", "training", "distracted queries")  # parts whose rows are asked about similar words
_MAP = ("everything", "localiser")  # parts whose rows tell the quality of their text map


def measure(lab: Lab, model: FDP, name: str, part: str = "everything", text_map: str = "learned") -> dict[str, Any]:
    """Measure a model on one set of the lab, with the text map "learned" or one of :data:`MAPS`.

    Similar words and the quality of the text map are measured only for rows about those parts.

    Returns:
        The fields of a record: ``mAP`` and groups in per cent; ``ap`` and ``told_apart`` (:func:`preferred_word`) in
        per mille, one a query; ``map_auc`` of :func:`map_auc`.
    """
    gallery, queries = lab.sets[name]
    store = lab.store(gallery, model.config)
    maps = None if text_map == "learned" else text_maps(text_map, model, gallery, store, model.config.seed)
    report, encoded = rank(model, store, gallery, queries, maps, lab.kinds(name))
    shares, quality = None, None
    if part in _SIMILAR and text_map == "learned":
        shares = preferred_word(model, encoded, gallery, queries)
        shares = [None if np.isnan(value) else round(1000 * float(value)) for value in shares]
    judged = model.config.shift == "replace" or part in _MAP and model.config.shift != "off"
    if judged and any(photo.words for photo in gallery.photos):
        given = text_maps("learned", model, gallery, store) if maps is None else maps
        quality = map_auc(given, text_maps("annotated", model, gallery, store))
    members = dict(queries.groups) or kind_groups(lab.kinds(name))
    return {
        "set": gallery.name,
        "split": gallery.split,
        "manifest_hash": gallery.manifest_hash,
        "images": len(gallery),
        "map": text_map,
        "map_auc": quality,
        "mAP": 100 * report.mean_ap,
        "groups": {group: 100 * value["mean"] for group, value in report.groups.items()},
        "members": {group: "".join("01"[int(on)] for on in member) for group, member in members.items()},
        "ap": [round(1000 * float(value)) for value in report.ap],
        "told_apart": shares,
    }


def identity(lab: Lab, settings: Config, name: str, text_map: str = "learned") -> tuple[str, ...]:
    """Return what tells a run from all others: configuration with its seed, weights, lessons, set, text map."""
    facts, gallery = lab.facts(), lab.sets[name][0]
    where = (gallery.name, gallery.split, gallery.manifest_hash, text_map)
    return (config_hash(settings), facts["weights_hash"], facts["train_hash"], *where)


def maps_of(row: Row, gallery: Gallery) -> tuple[str, ...]:
    """Return the text maps that a row is measured with: its own, and for the full model and ``shift replace`` all."""
    if row.name not in (FULL, REPLACED):
        return ("learned",)
    outlined = any(photo.words for photo in gallery.photos)
    return ("learned", *(how for how in MAPS if outlined or how != "annotated"))


def run(lab: Lab, row: Row, seed: int = 0, known: Iterable[dict[str, Any]] = (), **recipe: Any) -> list[dict[str, Any]]:
    """Train one row with one seed and measure it on every set of the lab for which there is no record.

    Where the ``known`` records hold all that would be measured, nothing is trained. ``recipe`` changes
    :data:`fdp_core.studies.ablation_grid.RECIPE`.

    Returns:
        The new records, one for each set and text map.
    """
    settings = row.config(seed, **recipe)
    have = {identity_of(record) for record in known}
    wanted = [(name, how) for name, (gallery, _) in lab.sets.items() for how in maps_of(row, gallery)]
    wanted = [(name, how) for name, how in wanted if identity(lab, settings, name, how) not in have]
    if not wanted:
        return []
    model, history, spent = train(lab, settings)
    scale = float(model.shift.scale.detach()) if settings.shift != "off" else None
    held_out = [100 * line["validation_map"] for line in history.epochs if line["validation_map"]] if history else []
    common = {
        "row": row.name,
        "seed": seed,
        "changes": {**recipe, **row.changes},  # as Row.config takes them
        "config_hash": config_hash(settings),
        **lab.facts(),
        "held_out_mAP": max(held_out, default=None),
        "steps": len(history.steps) if history else 0,
        "shift_scale": scale,
        "train_cpu_seconds": round(spent, 1),
        **results.circumstances(lab.backbone.device),
    }
    return [{**common, **measure(lab, model, name, row.part, how)} for name, how in wanted]


def main() -> None:
    """Run what has no record yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", default="mini,svt", help="where to measure, by comma")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--rows", default="", help="names of rows, by comma; all by default")
    parser.add_argument("--tiers", default="1,2,3")
    parser.add_argument("--train-set", default="mini_train")
    parser.add_argument("--backbone", default="mini")
    parser.add_argument("--epochs", type=int, default=ablation_grid.RECIPE["epochs"])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=0, help="torch threads; 0: torch's own choice")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    names = [name.strip() for name in args.rows.split(",") if name.strip()]
    rows = ablation_grid.named(names) if names else list(ablation_grid.GRID)
    recipe = {} if args.epochs == ablation_grid.RECIPE["epochs"] else {"epochs": args.epochs}
    lab = Lab(
        backbones.load(args.backbone, device=args.device),
        [datasets.load(name.strip(), "train")[0] for name in args.train_set.split("+")],
        {name.strip(): datasets.load(name.strip(), "test") for name in args.sets.split(",")},
        provenance.cache_folder("features"),
    )
    seeds = [int(seed) for seed in args.seeds.split(",")]
    todo = [
        (row, seed)
        for tier in sorted(int(tier) for tier in args.tiers.split(","))
        for seed in seeds
        for row in rows
        if row.tier == tier and (row.config(seed, **recipe).epochs or seed == seeds[0])  # untrained: nothing is random
    ]
    for number, (row, seed) in enumerate(todo, 1):
        begin = time.process_time()
        new = run(lab, row, seed, ablation_grid.load(), **recipe)
        if new:
            ablation_grid.keep(new)
        told = "".join(f", {r['set']} {r['mAP']:.1f}" for r in new if r["map"] == "learned") or ": has its records"
        spent = time.process_time() - begin
        print(f"{number}/{len(todo)} {row.name}, seed {seed}{told}; {spent:.0f} s of CPU", flush=True)


if __name__ == "__main__":
    main()
