"""FDP: one path from images and queries to comparable unit vectors, in training and in retrieval."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fdp_core import attention, focus
from fdp_core.backbones import STRIDE, Backbone
from fdp_core.config import Config
from fdp_core.distinguish import Clusters, kind_id
from fdp_core.prompt import PromptLearner

# these start from CLIP's values: small learning rate
_COPIED = ("positions", "localiser.new_v.", "localiser.new_c.")
_FRAME = 4  # tokens around a context: start, at least one of the word, full stop, end


class FDP(nn.Module):
    """Focus, Distinguish and Prompt around a frozen CLIP.

    Args:
        backbone: the frozen CLIP; it is part of the module but never of its checkpoints.
        config: all switches of the method.
        words: frequent scene-text words; when given, the function/content clusters are fitted on them (FDP
            section 3.3).

    Raises:
        ValueError: a switch does not fit the backbone (a context too long, heads that do not divide the width).
    """

    def __init__(self, backbone: Backbone, config: Config, words: Sequence[str] | None = None) -> None:
        super().__init__()
        longest = max(config.context_function, config.context_content)
        if config.prompts != "none" and longest + _FRAME > backbone.context_length:
            room = f"backbone {backbone.name} reads {backbone.context_length} tokens"
            raise ValueError(f"A context of {longest} vectors leaves no room for a word: {room}.")
        self.backbone, self.config = backbone, config
        pool, seed = backbone.pool, config.seed
        table = pool.positional_embedding.detach()
        grid = config.image_size // STRIDE
        self.positions = nn.Parameter(attention.resize_positions(table, grid, config.position_resize).clone())
        self.localiser = focus.Localiser(pool, config.localiser, config.localiser_hidden, seed)
        self.shift = focus.AttentionShift(
            config.shift, config.shift_scale_init, config.shift_scale_learnable, config.shift_mean_token
        )
        text = None if config.probe == "off" else backbone.encode_text([config.probe_text])[0]
        self.probe: nn.Module | None = None
        if config.probe == "official":
            self.probe = focus.OfficialProbe(text, config.probe_heads, config.probe_dropout, seed=seed)
        elif config.probe == "spatial":
            self.probe = focus.SpatialProbe(text, backbone.width, config.probe_heads, config.probe_dropout, seed)
        self.prompt: nn.Module | None = None
        if config.prompts != "none":
            lengths = config.context_function, config.context_content
            self.prompt = PromptLearner(backbone.text_width, *lengths, config.prompts, seed)
        self.words: tuple[str, ...] = ()
        self.threads: int | None = None  # PyTorch's in the training
        self._clusters: Clusters | None = None
        self._kinds: dict[str, int] = {}
        self.to(backbone.device)
        if words:
            self.fit_clusters(words)

    # Focus

    @property
    def logit_scale(self) -> float:
        """CLIP's frozen temperature τ, about 100."""
        return self.backbone.logit_scale

    def localise(self, features: Tensor) -> Tensor:
        """Return the text logits S, float [B, G, G], of trunk features [B, C, G, G]."""
        return self.localiser(self._features(features))

    def dense(self, features: Tensor) -> Tensor:
        """Return dense features in the joint space, float [B, D, G, G], of trunk features [B, C, G, G]."""
        return self.localiser.dense(self._features(features))

    def encode_features(
        self, features: Tensor, local_logits: Tensor | None = None, shift: focus.AttentionShift | None = None
    ) -> dict[str, Tensor]:
        """Run Focus on trunk features.

        Args:
            features: F, float or half [B, C, G, G]; any G (the trained positions are resized to it).
            local_logits: a text map [B, G, G] (logits) to use in place of the localiser's: another
                detector's, or a noisy one.
            shift: in place of the model's own.

        Returns:
            ``image`` v / |v| [B, D]; ``local_logits`` S [B, G, G]; ``shift`` M [B, L] (absent when off); ``attention``
            [B, H, L] of the mean token; ``pooled`` g [B, D]; ``probed`` h [B, D] (absent when the probe is off).

        Source: FDP section 3.2.
        """
        features = self._features(features)
        logits = self.localiser(features) if local_logits is None else local_logits.to(features)
        positions = attention.resize_positions(self.positions, features.shape[-1], self.config.position_resize)
        x = attention.tokens(features, positions)
        out = {"local_logits": logits}
        shift = self.shift if shift is None else shift
        moved, bias = shift(logits), None
        if moved is not None:
            out["shift"] = moved
            bias = focus.over_heads(moved, self.backbone.heads, self.config.shift_heads)
        out["pooled"], out["attention"] = attention.attention_pool(x, self.backbone.pool, bias, shift.own)
        image = out["pooled"]
        if self.probe is not None:
            out["probed"] = self.probe(out["pooled"], x)
            image = image + out["probed"]
        out["image"] = F.normalize(image, dim=-1)
        return out

    def encode_photographs(self, features: Tensor) -> Tensor:
        """Encode photographs for retrieval, [B, C, G, G] to [B, D], whatever else is in the batch.

        The released order of the heads (B1) mixes the images of a batch; the released test encodes them one by one.
        """
        parts = features.split(1) if self.config.shift_heads == "released_order" else [features]
        return torch.cat([self.encode_features(part)["image"] for part in parts])

    def encode_images(self, images: np.ndarray | Tensor) -> Tensor:
        """Encode images, uint8 [B, S, S, 3] or normalised float [B, 3, S, S]: unit vectors, float [B, D]."""
        if torch.as_tensor(images).dtype == torch.uint8:
            images = self.backbone.normalise(images)
        return self.encode_photographs(self.backbone.trunk(images))

    def _features(self, features: Tensor) -> Tensor:
        if features.ndim != 4 or features.shape[1] != self.backbone.width or features.shape[2] != features.shape[3]:
            raise ValueError(f"Expected trunk features [B, {self.backbone.width}, G, G], got {list(features.shape)}.")
        return features.to(self.positions.device, torch.float32)

    # Distinguish

    @property
    def clusters(self) -> Clusters | None:
        """The function/content clusters, None before :meth:`fit_clusters`."""
        return self._clusters

    @clusters.setter
    def clusters(self, clusters: Clusters | None) -> None:
        self._clusters = clusters
        self._kinds.clear()

    def fit_clusters(self, words: Sequence[str]) -> Clusters:
        """Fit the function/content clusters on CLIP's features of bare words (FDP 3.3; C1: seeded)."""
        config = self.config
        self.words = tuple(words)
        features = self.backbone.encode_text(self.words).cpu()
        anchors = config.function_anchor, config.content_anchor
        self.clusters = Clusters.fit(features, self.words, config.seed, config.cluster_n_init, *anchors)
        return self.clusters

    def kinds_of(self, texts: Sequence[str], override: Sequence[str | int | None] | None = None) -> Tensor:
        """Say which texts are function words (0) and which content words (1).

        Args:
            texts: N words or phrases; a phrase is taken as a whole.
            override: for each text "function", "content", 0, 1, or None to decide by the clusters.

        Returns:
            int64 [N] on the CPU.

        Raises:
            ValueError: an override is unknown, their number differs, or the clusters are needed but not fitted.
        """
        override = [None] * len(texts) if override is None else list(override)
        if len(override) != len(texts):
            raise ValueError(f"{len(texts)} texts but {len(override)} kinds; expected a kind or None for each text.")
        fixed = [None if kind is None else kind_id(kind) for kind in override]
        new = sorted({text for text, kind in zip(texts, fixed, strict=True) if kind is None} - self._kinds.keys())
        if new:
            if self._clusters is None:
                raise ValueError("The clusters are not fitted: call fit_clusters(words) or give kinds.")
            decided = self._clusters.assign(self.backbone.encode_text(new), new)
            self._kinds.update(zip(new, decided.tolist(), strict=True))  # C3: each word is decided once
        found = [self._kinds[text] if kind is None else kind for text, kind in zip(texts, fixed, strict=True)]
        return torch.tensor(found, dtype=torch.long)

    # Prompt

    def encode_queries(
        self, texts: Sequence[str], kinds: Sequence[str | int | None] | None = None, soft: bool = False
    ) -> Tensor:
        """Encode queries with their learned contexts; equal ones are encoded once.

        Args:
            texts: Q words or phrases.
            kinds: overrides the function/content decision, as in :meth:`kinds_of`.
            soft: mix both contexts' features by the distances to the two centres, not decide (C9).

        Returns:
            Unit vectors, float [Q, D].

        Source: FDP section 3.4.
        """
        texts = list(texts)
        if soft and texts and self.config.prompts == "two":
            if self._clusters is None or kinds is not None:
                raise ValueError("Soft mixing needs fitted clusters and no kinds given by hand.")
            both = torch.stack([self.encode_queries(texts, [kind] * len(texts)) for kind in (0, 1)], dim=-1)
            shares = self._clusters.weights(self.backbone.encode_text(texts), words=texts)
            return F.normalize((both @ shares.to(both)[:, :, None])[..., 0], dim=-1)
        if self.prompt is None:
            return F.normalize(self.backbone.encode_text(texts), dim=-1)
        decided = self.kinds_of(texts, kinds) if self.config.prompts == "two" else None
        return F.normalize(self.prompt(self.backbone, texts, decided), dim=-1)

    # what is trained

    def trainable_parameters(self) -> list[dict]:
        """Return the optimiser's groups: "new" layers, and "copied" ones that start from CLIP's values."""
        groups: dict[str, list[nn.Parameter]] = {"new": [], "copied": []}
        for name, parameter in self.named_parameters():
            if not name.startswith("backbone."):
                groups["copied" if name.startswith(_COPIED) else "new"].append(parameter)
        rates = {"new": self.config.lr_new, "copied": self.config.lr_copied}
        return [{"name": name, "params": params, "lr": rates[name]} for name, params in groups.items()]

    def trained_state(self) -> dict[str, Tensor]:
        """Return what training changes, by name: everything but the backbone (B6)."""
        return {name: value for name, value in self.state_dict().items() if not name.startswith("backbone.")}

    def load_trained_state(self, state: dict[str, Tensor]) -> None:
        """Load :meth:`trained_state`; a ``ValueError`` names what is missing, unknown or misshapen."""
        mine = self.trained_state()
        problems = [f"missing {name}" for name in sorted(mine.keys() - state.keys())]
        problems += [f"unknown {name}" for name in sorted(state.keys() - mine.keys())]
        for name in sorted(mine.keys() & state.keys()):
            if mine[name].shape != state[name].shape:
                problems.append(f"{name} is {list(state[name].shape)}, expected {list(mine[name].shape)}")
        if problems:
            raise ValueError(f"These weights do not fit this configuration and backbone: {'; '.join(problems)}.")
        self.load_state_dict(state, strict=False)  # not strict: the backbone is not in it
