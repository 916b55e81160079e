"""Every switch of the method in one frozen dataclass, with the two presets that the book compares."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args, get_type_hints

from pydantic import Field, TypeAdapter, ValidationError

Shift = Literal["additive", "log", "multiply", "replace", "off"]  # forms of the attention shift
Head, Resize, Order = Literal["conv", "linear"], Literal["2d", "flat_nearest"], Literal["per_image", "released_order"]
Prompts, Target, Balance = Literal["two", "one", "none"], Literal["temperature", "inverse"], Literal["image", "batch"]
SHIFTS: tuple[str, ...] = get_args(Shift)
Whole = Annotated[int, Field(ge=0, description="a whole number, 0 or more")]
Count = Annotated[int, Field(ge=1, description="a whole number, 1 or more")]
Size = Annotated[int, Field(ge=32, multiple_of=32, description="a positive multiple of 32 (the stride)")]
Seed = Annotated[int, Field(ge=0, lt=2**32, description="a whole number, 0 or more and below 2^32")]
Real = Annotated[float, Field(allow_inf_nan=False, description="a finite number")]
Number = Annotated[float, Field(ge=0, allow_inf_nan=False, description="a finite number, 0 or more")]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False, description="a positive, finite number")]
Share = Annotated[float, Field(ge=0, lt=1, description="a number from 0 to below 1")]
Text = Annotated[str, Field(pattern=r"\S", description="a text that is not empty")]
_adapter = functools.cache(TypeAdapter)


def check(name: str, value: object, kind: Any) -> None:
    """Raise ``ValueError``, naming the value and what is expected, where a value is not of a type or out of range."""
    try:
        _adapter(kind).validate_python(value, strict=True)
    except ValidationError as error:
        facts = _adapter(kind).json_schema()
        words = "one of " + ", ".join(facts["enum"]) if "enum" in facts else "true or false"
        raise ValueError(f"{name} is {value!r}; expected {facts.get('description', words)}.") from error


def parse(source: Any, kind: Any) -> Any:
    """Return a JSON text, or values, as a type; ``ValueError`` names the first place that is not as expected."""
    adapter = _adapter(kind)
    read = adapter.validate_json if isinstance(source, (str, bytes)) else adapter.validate_python
    try:
        return read(source, strict=True)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        place = "/".join(map(str, fault["loc"])) or "the whole"
        raise ValueError(f"{place}: {fault['msg']}; found {fault['input']!r:.80}") from None


def nearest(name: str, known: Iterable[str]) -> str:
    """Return `` Did you mean 'X'?`` for a misspelt name, or nothing where no known one is near."""
    near = difflib.get_close_matches(str(name), list(known), n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


@dataclass(frozen=True)
class Config:
    """All choices of FDP; the defaults are the better choice for each known defect of the released code.

    Source: FDP sections 3.2-3.5 and the released code; the ids in the comments name the defect that a switch is about.
    """

    # input
    image_size: Size = 640  # side of the square input, pixels; a multiple of 32
    fit: Literal["letterbox", "centre_crop"] = "letterbox"  # D1: how a photograph becomes a square; see retrieval_fit
    polygon_fit: Literal["same", "squash"] = "same"  # D1: "squash" scales polygons by S/w, S/h whatever the image did
    # Focus
    position_resize: Resize = "2d"  # B3
    localiser: Head = "conv"  # B5: "linear" is the released head
    localiser_hidden: Count = 64  # channels of the conv head
    shift: Shift = "log"  # B4: how the localiser's map enters the attention logits
    shift_scale_init: Number = 1.0  # B4: initial scale of the shift
    shift_scale_learnable: bool = True  # B4
    shift_mean_token: bool = False  # B4: does the mean token get the bias of a text cell?
    shift_heads: Order = "per_image"  # B1: "released_order" hands masks to the wrong images when B > 1
    probe: Literal["spatial", "official", "off"] = "spatial"  # B2
    probe_heads: Count = 8
    probe_dropout: Share = 0.1
    probe_text: Text = "scene text"
    # Distinguish
    cluster_n_init: Count = 10  # C1
    function_anchor: Text = "the"  # the cluster that holds this word is "function"
    content_anchor: Text = "office"  # the cluster that holds this word is "content"
    # Prompt
    prompts: Prompts = "two"
    prompt_start: Literal["neutral", "random"] = (
        "neutral"  # contexts that nearly leave CLIP's word features as they are; "random": released
    )
    context_function: Whole = 2  # learnable vectors before a function word
    context_content: Whole = 4  # learnable vectors before a content word
    # Distracted queries
    candidates: Count = 5  # the word + 4 distractors
    distraction_target: Target = "temperature"  # C4
    distraction_temperature: Positive = 0.5  # C4: T of softmax(-d/T), in edits
    distractor_cluster: Literal["own", "anchor"] = "own"  # C8
    drop_true_distractors: bool = True  # C6: a distractor that stands in the same image is not one
    mask_padding: bool = True  # C5
    # supervision
    shrink_ratio: Share = 0.4  # Vatti offset A(1-r^2)/P
    target_pool: Literal["area", "nearest"] = "area"  # D2
    loc_balance: Balance = "image"  # D9: where hard negatives are balanced
    negative_ratio: Number = 3.0  # hard negatives : positives
    positives: Literal["multi", "single"] = "multi"  # D6
    # loss weights
    weight_align: Number = 1.0
    weight_distract: Number = 1.0
    weight_loc: Number = 1.0
    # optimisation
    epochs: Whole = 20
    batch_size: Count = 48  # samples (an image and one of its words) a step
    words_per_image: Count = 4  # B7: words of an image that share a step and one pass through Focus; 1: released code
    lr_new: Number = 2e-3  # contexts, probe, new localiser layers
    lr_copied: Number = 1e-4  # position table, new_v, new_c: they start from CLIP's values
    weight_decay: Number = 1e-3
    decay_epoch: Whole = 10  # learning rates x 0.1 from this epoch on
    validation_share: Share = 0.1  # E1: share of the training images held out for model selection
    shuffle: bool = True  # D5: a new order each epoch; False: one shuffled order for all epochs, as released
    seed: Seed = 0

    def __post_init__(self) -> None:
        for name, kind in get_type_hints(Config, include_extras=True).items():
            check(f"Config.{name}", getattr(self, name), kind)

    @property
    def retrieval_fit(self) -> str:
        """How a photograph becomes a square when it is ranked: as in training, but padded for the released code.

        The released training crops the centre and squashes polygons; the released test ranks photographs that were
        padded to squares beforehand.
        """
        return "letterbox" if self.polygon_fit == "squash" else self.fit

    def replace(self, **changes: Any) -> Config:
        """Return a copy with the named switches changed; an unknown name raises ``ValueError``."""
        if unknown := sorted(changes.keys() - vars(self).keys()):
            raise ValueError(f"Config has no field {unknown[0]!r}.{nearest(unknown[0], vars(self))}")
        return dataclasses.replace(self, **changes)

    def to_json(self) -> str:
        """Return the configuration as a JSON object with sorted keys."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Config:
        """Build a configuration from :meth:`to_json`'s text; what is no such object raises ``ValueError``."""
        return cls().replace(**parse(text, dict[str, Any]))


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
        raise ValueError(f"Unknown preset {name!r}; expected one of {', '.join(PRESETS)}.{nearest(name, PRESETS)}")
    return PRESETS[name].replace(**changes)
