"""Pre-trains ``mini_clip``, a CLIP in miniature: whole pictures against captions, one vector each.

    python -m fdp_core.mini.bank --backbone mini_clip --out runs/clip_bank --scenes 14000
    python -m fdp_core.mini.pretrain_clip --bank runs/clip_bank --out runs/mini_clip

It starts from ``mini``, whose first layers see strokes and shapes and stay as they are; the attention pool's queries
and keys start anew, so that the pool looks everywhere. Most steps look closely, at one thing or a few, as most
photographs of CLIP's do; every third sees scenes at 224 pixels, every sixth fewer ones at 448. Captions name what is
written and what is drawn by the same words; words of closed classes are only ever written; text against text teaches
what words mean (``captions``).
Interrupt at any time: the same command resumes; ``--start`` begins from weights alone.
"""

from __future__ import annotations

import copy
import functools
import math
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fdp_core import attention, backbones, losses, weights
from fdp_core.datasets.types import box_polygon
from fdp_core.mini import captions, scenery, training
from fdp_core.mini.bank import Bank
from fdp_core.mini.pretrain import MINI, encode_text, normalise, write
from fdp_core.mini.renderer import SceneWord
from fdp_core.regions import crops

LOWEST = 6.0  # pixels: lower words are named by no caption


@dataclass(frozen=True)
class ClipRecipe:
    """Everything that decides the result of a run, beside the bank, WordNet and the weights that it starts from."""

    steps: int = 3000
    scenes: int = 64  # a step
    size: int = 224  # pixels
    whole_every: int = 3  # every so many-th step sees whole scenes, the others look closely
    close_scenes: int = 384
    close_size: int = 64
    looks: int = 4  # at one scene, closely, in a step
    large_every: int = 6  # a multiple of whole_every: these steps see larger and fewer scenes
    large_scenes: int = 16
    large_size: int = 448
    wrong: float = 0.25  # share of the written words of which a misspelling joins the captions
    relations: int = 64  # words a step that are held against texts that mean them
    closed: int = 32  # words of closed classes among them, which only "function word" means
    text_every: int = 2  # the text tower learns in every so many-th step
    lr: float = 1e-3
    text_share: float = 0.5  # of the learning rate, for the text tower
    warmup: int = 60
    weight_decay: float = 0.05
    spread: float = 0.5  # least entropy of the pool's attention, as a share of the largest that the grid admits
    ema: float = 0.995
    seed: int = 0


class CaptionedScenes(training.Steps):
    """What the steps see: scenes cut out of the bank's and damaged, and captions."""

    def __init__(self, recipe: ClipRecipe, bank: Bank) -> None:
        self.recipe, self.bank, self.steps, self.seed = recipe, bank, recipe.steps, recipe.seed

    def make(self, rng: np.random.Generator, step: int) -> dict:
        """Draw the scenes and captions of a step."""
        r = self.recipe
        close = (step + 1) % r.whole_every > 0
        if close:
            count, size, looks = r.close_scenes, r.close_size, r.looks
        elif (step + 1) % r.large_every:
            count, size, looks = r.scenes, r.size, 1
        else:
            count, size, looks = r.large_scenes, r.large_size, 1
        pictures, seen = [], []
        while len(pictures) < count:
            scene = self.bank.scenes[int(rng.integers(len(self.bank)))]
            picture = scene.image()
            for _ in range(min(looks, count - len(pictures))):
                look, things = cut(rng, picture, scene.things, size, close)
                if things:
                    pictures.append(look)
                    seen.append(things)
        texts, true = captions.sample(rng, seen, r.wrong)
        words, meant, means = captions.sample_meanings(rng, r.relations, r.closed)
        unknown = rng.normal(0, 0.02, (int(rng.choice([0, 1, 2, 4])), MINI["text_cfg"]["width"])).astype(np.float32)
        return {
            "scenes": torch.from_numpy(np.stack(pictures)),
            "texts": texts,
            "true": torch.from_numpy(true),
            "unknown": torch.from_numpy(unknown),
            "words": words,
            "meant": meant,
            "means": torch.from_numpy(means),
        }


def cut(
    rng: np.random.Generator, picture: np.ndarray, things: list[SceneWord], size: int, close: bool
) -> tuple[np.ndarray, list[SceneWord]]:
    """Cut a square out of a scene and damage it: uint8 [size, size, 3], and the things that can be seen in it.

    ``close``: around one thing, a drawn one if there is any, which fills a third of the side at least.
    """
    whole = picture.shape[0]
    if close and things:
        shown = [thing for thing in things if not thing.is_word] or things
        box = shown[int(rng.integers(len(shown)))].polygon
        side = min(whole, max(np.ptp(box, axis=0).max() * rng.uniform(1.05, 3.0), 24.0))
        corner = rng.uniform(np.minimum(box.max(axis=0) - side, box.min(axis=0)), box.min(axis=0))
    else:
        side = whole * rng.uniform(0.6, 1.0)
        corner = rng.uniform(0, whole - side, 2)
    left, top = np.clip(corner, 0, whole - side)
    scale = size / side
    moved = [((t.polygon - [left, top]) * scale, t) for t in things if t.visible]
    inside = [t for p, t in moved if p.min() >= -2 and p.max() <= size + 2 and min(np.ptp(p, axis=0)) >= LOWEST]
    image = crops.cut(picture, box_polygon(left, top, side, side), size, size)
    return scenery.camera(rng, image, 0.5), inside


def see(clip: nn.Module, scenes: Tensor, half: bool = True) -> tuple[Tensor, Tensor]:
    """Encode scenes, uint8 [B, S, S, 3], with gradients of the last two layers and the pool.

    Returns:
        Unit vectors float [B, D]; attention weights of the pool, float [B, H, L].
    """
    visual, scenes = clip.visual, scenes.to(clip.positional_embedding.device)
    with torch.autocast(scenes.device.type, torch.bfloat16, enabled=half):
        with torch.no_grad():
            x = backbones.run_levels(clip, normalise(scenes), 2)[-1]
        x = visual.layer4(visual.layer3(x)).float()
    positions = attention.resize_positions(visual.attnpool.positional_embedding, tuple(x.shape[2:]))
    pooled, looks = attention.attention_pool(attention.tokens(x, positions), visual.attnpool)
    return F.normalize(pooled, dim=-1), looks


def read(
    clip: nn.Module, tokenizer: weights.CharTokenizer, texts: list[str], unknown: Tensor, half: bool = True
) -> Tensor:
    """Encode texts behind unknown tokens [k, W], in parts of texts that stand together: unit vectors float [M, D]."""
    device, size = clip.positional_embedding.device, math.ceil(len(texts) / 4)
    parts = [tokenizer(texts[i : i + size]).to(device) for i in range(0, len(texts), size)]
    with torch.autocast(device.type, torch.bfloat16, enabled=half):
        encoded = [encode_text(clip, part, unknown.to(device).expand(len(part), -1, -1)) for part in parts]
    return F.normalize(torch.cat(encoded).float(), dim=-1)


def forward(
    clip: nn.Module, tokenizer: weights.CharTokenizer, batch: dict, learn: bool, spread: float, half: bool = True
) -> dict[str, Tensor]:
    """Return the terms of the loss, and two that are only shown; ``learn``: the text tower learns too.

    Below an entropy of ``spread`` times log L a penalty pulls the attention of the pool back.
    """
    device = clip.positional_embedding.device
    true, scale = batch["true"].to(device), clip.logit_scale.exp().clamp(max=100)
    seen, looks = see(clip, batch["scenes"], half)
    with torch.set_grad_enabled(learn):
        texts = read(clip, tokenizer, batch["texts"], batch["unknown"], half)
    entropy = -(looks * looks.clamp(min=1e-9).log()).sum(-1) / math.log(looks.shape[-1])
    terms = {"captions": losses.contrastive(seen, texts, true, scale), "spread": F.relu(spread - entropy).mean()}
    if learn:
        words, meant = (read(clip, tokenizer, batch[part], batch["unknown"], half) for part in ("words", "meant"))
        # a lower temperature than for pictures: meaning is a matter of degree
        terms["meanings"] = losses.contrastive(words, meant, batch["means"].to(device), scale.clamp(max=20))
    with torch.no_grad():
        terms["accuracy"] = true.gather(1, (seen @ texts.T).argmax(1, keepdim=True)).float().mean()
        terms["largest"] = looks[..., 1:].amax(-1).mean()
    return terms


def begin(start: Path | None, seed: int) -> nn.Module:
    """Return the weights to start from: ``mini`` with a pool that looks everywhere, or those of a file."""
    clip, _ = weights.read_mini(start or weights.MINI_WEIGHTS)
    if start is None:
        torch.manual_seed(seed)
        for layer in (clip.visual.attnpool.q_proj, clip.visual.attnpool.k_proj):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)
    return clip


@training.interruptible()
def train(
    out: Path,
    recipe: ClipRecipe,
    bank: Bank,
    start: Path | None,
    device: str,
    workers: int,
    minutes: float | None,
    half: bool = True,
) -> None:
    """Run or resume; writes ``state.pt``, ``log.jsonl`` and ``mini_clip.safetensors`` (EMA, eight bits) to ``out``."""
    clip = begin(start, recipe.seed).to(device).to(memory_format=torch.channels_last).eval()
    ema, visual = copy.deepcopy(clip), clip.visual
    for layer in (visual.layer3, visual.layer4):
        layer.train()  # batch norm by the batch: with the start's statistics a high learning rate does not learn
    seeing = [p for module in (visual.layer3, visual.layer4, visual.attnpool) for p in module.parameters()]
    reading = [p for module in (clip.transformer, clip.token_embedding, clip.ln_final) for p in module.parameters()]
    groups = training.groups([*seeing, clip.logit_scale], recipe.weight_decay)
    reading += [clip.positional_embedding, clip.text_projection]
    groups += training.groups(reading, recipe.weight_decay, recipe.text_share)
    optimiser = torch.optim.AdamW(groups, lr=recipe.lr, betas=(0.9, 0.98), fused=True)
    run = training.Run(out / "state.pt", {"model": clip, "ema": ema}, optimiser, asdict(recipe), out / "log.jsonl")
    tokenizer = weights.CharTokenizer(MINI["text_cfg"]["context_length"])
    save = functools.partial(write, out / "mini_clip.safetensors", ema, asdict(recipe), bits=8)
    for step, batch in run.batches(CaptionedScenes(recipe, bank), save, workers, every=50, minutes=minutes):
        terms = forward(clip, tokenizer, batch, step % recipe.text_every == 0, recipe.spread, half)
        loss = terms["captions"] + terms["spread"] + terms.get("meanings", 0.0)
        lr = recipe.lr * training.cosine(step, recipe.steps, recipe.warmup)
        run.update(loss, lr, {"lr": lr} | terms, largest=1.0, smooth=0.9)
        training.average(ema, clip, min(recipe.ema, (step + 1) / (step + 10)))


def main() -> None:
    """Parse the command line and train."""
    out = "folder of the run; an existing run is resumed"
    parser = training.options(__doc__, out, True, **asdict(ClipRecipe()))
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--start", type=Path, help="weights to go on from; default: mini's, with a new pool")
    parser.add_argument("--minutes", type=float, help="stop and save after so long; the same command goes on")
    args = training.parse(parser)
    recipe = ClipRecipe(**{name: getattr(args, name) for name in asdict(ClipRecipe())})
    bank, half = Bank(args.bank), not args.full_precision
    train(args.out, recipe, bank, args.start, args.device, args.workers, args.minutes, half)


if __name__ == "__main__":
    main()
