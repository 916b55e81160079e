"""Every switch of the method in one frozen dataclass, with the two presets that the book compares."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

SHIFTS = ("additive", "log", "multiply", "replace", "off")  # forms of the attention shift
_CHOICES: dict[str, tuple[str, ...]] = {
    "fit": ("letterbox", "centre_crop"),
    "polygon_fit": ("same", "squash"),
    "position_resize": ("2d", "flat_nearest"),
    "localiser": ("conv", "linear"),
    "shift": SHIFTS,
    "shift_heads": ("per_image", "released_order"),
    "probe": ("spatial", "official", "off"),
    "prompts": ("two", "one", "none"),
    "prompt_start": ("neutral", "random"),
    "distraction_target": ("temperature", "inverse"),
    "distractor_cluster": ("own", "anchor"),
    "target_pool": ("area", "nearest"),
    "loc_balance": ("image", "batch"),
    "positives": ("multi", "single"),
}


@dataclass(frozen=True)
class Config:
    """All choices of FDP; the defaults are the better choice for each known defect of the released code.

    Source: FDP sections 3.2-3.5 and the released code; the ids in the comments name the defect that a switch
    is about.
    """

    # input
    image_size: int = 640  # side of the square input, pixels; a multiple of 32
    fit: str = "letterbox"  # D1: how a photograph becomes a square; see retrieval_fit
    polygon_fit: str = "same"  # D1: "squash" scales polygons by S/w, S/h whatever the image did
    # Focus
    position_resize: str = "2d"  # B3
    localiser: str = "conv"  # B5: "linear" is the released head
    localiser_hidden: int = 64  # channels of the conv head
    shift: str = "log"  # B4: how the localiser's map enters the attention logits
    shift_scale_init: float = 1.0  # B4: initial scale of the shift
    shift_scale_learnable: bool = True  # B4
    shift_mean_token: bool = False  # B4: does the mean token get the bias of a text cell?
    shift_heads: str = "per_image"  # B1: "released_order" hands masks to the wrong images when B > 1
    probe: str = "spatial"  # B2
    probe_heads: int = 8
    probe_dropout: float = 0.1
    probe_text: str = "scene text"
    # Distinguish
    cluster_n_init: int = 10  # C1
    function_anchor: str = "the"  # the cluster that holds this word is "function"
    content_anchor: str = "office"  # the cluster that holds this word is "content"
    # Prompt
    prompts: str = "two"
    prompt_start: str = "neutral"  # contexts that nearly leave CLIP's word features as they are; "random": released
    context_function: int = 2  # learnable vectors before a function word
    context_content: int = 4  # learnable vectors before a content word
    # Distracted queries
    candidates: int = 5  # the word + 4 distractors
    distraction_target: str = "temperature"  # C4
    distraction_temperature: float = 0.5  # C4: T of softmax(-d/T), in edits
    distractor_cluster: str = "own"  # C8
    drop_true_distractors: bool = True  # C6: a distractor that stands in the same image is not one
    mask_padding: bool = True  # C5
    # supervision
    shrink_ratio: float = 0.4  # Vatti offset A(1-r^2)/P
    target_pool: str = "area"  # D2
    loc_balance: str = "image"  # D9: where hard negatives are balanced
    negative_ratio: float = 3.0  # hard negatives : positives
    positives: str = "multi"  # D6
    # loss weights
    weight_align: float = 1.0
    weight_distract: float = 1.0
    weight_loc: float = 1.0
    # optimisation
    epochs: int = 20
    batch_size: int = 48  # samples (an image and one of its words) a step
    words_per_image: int = 4  # B7: words of an image that share a step and one pass through Focus; 1: released code
    lr_new: float = 2e-3  # contexts, probe, new localiser layers
    lr_copied: float = 1e-4  # position table, new_v, new_c: they start from CLIP's values
    weight_decay: float = 1e-3
    decay_epoch: int = 10  # learning rates x 0.1 from this epoch on
    validation_share: float = 0.1  # E1: share of the training images held out for model selection
    shuffle: bool = True  # D5: a new order each epoch; False: one shuffled order for all epochs, as released
    seed: int = 0

    def __post_init__(self) -> None:
        for name, allowed in _CHOICES.items():
            value = getattr(self, name)
            if value not in allowed:
                raise ValueError(f"Config.{name} is {value!r}; expected one of {', '.join(allowed)}.")
        if self.image_size < 32 or self.image_size % 32:
            raise ValueError(
                f"Config.image_size is {self.image_size}; expected a positive multiple of 32 (the stride)."
            )
        if self.words_per_image < 1 or self.batch_size < 1:
            raise ValueError(
                f"Config.words_per_image is {self.words_per_image} and Config.batch_size {self.batch_size}; "
                "expected 1 or more."
            )

    @property
    def retrieval_fit(self) -> str:
        """How a photograph becomes a square when it is ranked: as in training, but padded for the released code.

        The released training crops the centre and squashes polygons; the released test ranks photographs that were
        padded to squares beforehand.
        """
        return "letterbox" if self.polygon_fit == "squash" else self.fit

    def replace(self, **changes: Any) -> Config:
        """Return a copy with the named switches changed; an unknown name raises ``TypeError``."""
        return dataclasses.replace(self, **changes)

    def to_json(self) -> str:
        """Return the configuration as a JSON object with sorted keys."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Config:
        """Build a configuration from :meth:`to_json`'s text; unknown keys raise ``ValueError``."""
        values = json.loads(text)
        unknown = sorted(set(values) - {field.name for field in dataclasses.fields(cls)})
        if unknown:
            raise ValueError(f"Unknown configuration keys: {', '.join(unknown)}.")
        return cls(**values)


# paper_compat is the released code. One difference is left: its order of the samples, drawn once without a seed there,
# comes from ``seed``. Retrieval takes each photograph alone, as the released test does.
PRESETS: dict[str, Config] = {
    "default": Config(),
    "paper_compat": Config(
        fit="centre_crop",
        polygon_fit="squash",
        position_resize="flat_nearest",
        localiser="linear",
        shift="additive",
        shift_scale_learnable=False,
        shift_mean_token=True,
        shift_heads="released_order",  # B1 mixes the images of a training batch; retrieval encodes one at a time
        probe="official",
        prompt_start="random",
        distraction_target="inverse",
        distractor_cluster="anchor",
        drop_true_distractors=False,
        mask_padding=False,
        target_pool="nearest",
        loc_balance="batch",
        positives="single",
        words_per_image=1,
        shuffle=False,
        validation_share=0.0,
    ),
}


def preset(name: str, **changes: Any) -> Config:
    """Return the preset ``name`` with the named switches changed.

    Raises:
        ValueError: the preset is unknown.
    """
    if name not in PRESETS:
        raise ValueError(f"Unknown preset {name!r}; expected one of {', '.join(PRESETS)}.")
    return PRESETS[name].replace(**changes)
