"""One run of the ablation grid: train a row from cached features, measure it on several sets, make one record for each.

The long command that runs all of them is ``benchmarks/ablations.py``.
"""

from __future__ import annotations

import hashlib
import time
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fdp_core import evaluation, lexicon, prompt, results, samples, training, words
from fdp_core.ablation_measures import MAPS, Encoded, map_quality, text_maps, told_apart, vectors
from fdp_core.ablation_records import config_hash, identity_of
from fdp_core.ablations import FULL, REPLACED, Row
from fdp_core.config import Config
from fdp_core.features import FeatureStore, trunk_features
from fdp_core.model import FDP

_TELLING = ("everything", "training", "distracted queries")
_LOOKING = ("everything", "localiser")


@dataclass
class Lab:
    """What all runs share: backbone, training photographs, the sets to measure on, caches.

    Attributes:
        backbone: a frozen :class:`fdp_core.backbones.Backbone`.
        lessons: training galleries.
        sets: name -> (gallery, queries).
        cache_dir: folder of the trunk's features; None keeps them in memory.
        progress: show progress bars.
    """

    backbone: Any
    lessons: Sequence[Any]
    sets: dict[str, tuple[Any, Any]]
    cache_dir: Path | None = None
    progress: bool = False
    _stores: dict[Any, FeatureStore] = field(default_factory=dict)
    _starts: dict[Any, dict[str, Any]] = field(default_factory=dict)
    _kinds: dict[str, np.ndarray] = field(default_factory=dict)

    def store(self, gallery: Any, settings: Config) -> FeatureStore:
        """Return the trunk's features of a gallery at the settings' size and fit."""
        key = (gallery.name, gallery.split, settings.image_size, settings.fit)
        if key not in self._stores:
            self._stores[key] = trunk_features(
                self.backbone, gallery, settings.image_size, settings.fit, self.cache_dir, self.progress
            )
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


def trained(lab: Lab, settings: Config) -> tuple[FDP, Any]:
    """Train one model; it is, to the bit, what :func:`fdp_core.training.train` gives.

    Args:
        lab: what all runs share.
        settings: all switches; ``epochs`` 0 trains nothing.

    Returns:
        (the model in eval mode, its history or None).
    """
    model = lab.model(settings).eval()
    if settings.epochs == 0:
        return model, None
    released = settings.validation_share == 0  # the released code learns dictionary words only
    dictionary = lexicon.words() if released else None
    stores = [lab.store(lesson, settings) for lesson in lab.lessons]
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
    history = training.train(
        model, lab.lessons, recipe, progress=lab.progress, stores=stores, dictionary=dictionary
    )
    return model, history


def measure(lab: Lab, model: FDP, name: str, part: str = "everything", text_map: str = "learned") -> dict[str, Any]:
    """Measure a model on one set: ``mAP`` and groups in per cent, each query's AP in per mille; words told apart and
    the quality of the text map only for rows about those parts, since they cost as much again."""
    gallery, queries = lab.sets[name]
    store = lab.store(gallery, model.config)
    maps = None if text_map == "learned" else text_maps(text_map, model, gallery, store, model.config.seed)
    encoded = vectors(model, store, maps)
    report = evaluation.evaluate(Encoded(text_map, encoded, model), gallery, queries, kinds=lab.kinds(name))
    apart, quality = None, None
    if part in _TELLING and text_map == "learned":
        apart = told_apart(model, encoded, gallery, queries)
        apart = [None if np.isnan(value) else round(1000 * float(value)) for value in apart]
    looks = model.config.shift == "replace" or part in _LOOKING and model.config.shift != "off"
    if looks and any(photo.words for photo in gallery.photos):
        looked = text_maps("learned", model, gallery, store) if maps is None else maps
        quality = map_quality(looked, text_maps("annotated", model, gallery, store))
    members = dict(queries.groups) or evaluation.kind_groups(lab.kinds(name))
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
        "told_apart": apart,
    }


def identity(lab: Lab, settings: Config, name: str, text_map: str = "learned") -> tuple[str, ...]:
    """Return what tells a run from all others: configuration with its seed, weights, lessons, set, text map."""
    facts, gallery = lab.facts(), lab.sets[name][0]
    where = (gallery.name, gallery.split, gallery.manifest_hash, text_map)
    return (config_hash(settings), facts["weights_hash"], facts["train_hash"], *where)


def maps_of(row: Row) -> tuple[str, ...]:
    """Return the text maps that a row is measured with: the full model, and the shift that leaves all to the map, with
    all of them, others with their own."""
    return ("learned", *MAPS) if row.name in (FULL, REPLACED) else ("learned",)


def run(
    lab: Lab, row: Row, seed: int = 0, known: Iterable[dict[str, Any]] = (), **recipe: Any
) -> list[dict[str, Any]]:
    """Train one row with one seed and measure it on every set of the lab for which there is no record.

    Args:
        lab: what all runs share.
        row: of :data:`fdp_core.ablations.GRID`.
        seed: of everything random.
        known: records; where they hold all that would be measured, nothing is trained.
        recipe: changes to :data:`fdp_core.ablations.RECIPE`.

    Returns:
        The new records, one for each set and text map.
    """
    settings = row.config(seed, **recipe)
    have = {identity_of(record) for record in known}
    wanted = [(name, how) for name in lab.sets for how in maps_of(row)]
    wanted = [(name, how) for name, how in wanted if identity(lab, settings, name, how) not in have]
    if not wanted:
        return []
    begin = time.process_time()
    model, history = trained(lab, settings)
    spent = time.process_time() - begin
    scale = float(model.shift.scale.detach()) if settings.shift != "off" else None
    held_out = [100 * line["validation_map"] for line in history.epochs if line["validation_map"]] if history else []
    common = {
        "row": row.name,
        "seed": seed,
        "changes": {**row.changes, **recipe},
        "config_hash": config_hash(settings),
        **lab.facts(),
        "held_out_mAP": max(held_out, default=None),
        "steps": len(history.steps) if history else 0,
        "shift_scale": scale,
        "train_cpu_seconds": round(spent, 1),
        **results.circumstances(lab.backbone.device),
    }
    return [{**common, **measure(lab, model, name, row.part, how)} for name, how in wanted]
