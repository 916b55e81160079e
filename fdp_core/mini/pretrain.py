"""Pre-trains ``mini``, the compact CLIP, from scratch on rendered scenes: words, pictures and their names.

    python -m fdp_core.mini.bank --out runs/bank          # once: draws the scenes
    python -m fdp_core.mini.pretrain --bank runs/bank --out runs/mini

Contrastive image-text learning. First the text tower alone learns to spell; then the image tower learns to read word
crops (and to name pictures); then whole scenes join, each against every word and picture name in it
(multi-positive), and each thing in them, by its cells; at last, with a learning rate anew, mostly scenes. Hard
negatives are misspellings of the batch's words. One linear head on the joint space, shared by both towers and thrown
away afterwards, predicts which letter stands where (PHOC). Interrupt at any time: the same command goes on
where it stopped, to the same result.
"""

from __future__ import annotations

import copy
import functools
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fdp_core import backbones, losses, weights
from fdp_core.files import atomic_write_bytes
from fdp_core.mini import batches, training
from fdp_core.mini.bank import Bank
from fdp_core.mini.batches import Batches, Recipe

MEAN, STD = (0.45, 0.45, 0.45), (0.27, 0.27, 0.27)
MINI = {
    "embed_dim": 256,
    # widths of whole vector registers: 32 costs hardly more than 20 and learns more
    "vision_cfg": {"layers": [1, 2, 3, 2], "width": 32, "image_size": 224},
    "text_cfg": {"context_length": 64, "vocab_size": 128, "width": 192, "heads": 6, "layers": 4},
    "mean": MEAN,
    "std": STD,
}  # fmt: skip


def see(clip: nn.Module, images: Tensor, half: bool) -> Tensor:
    """Encode images of any size that divides by 32: uint8 [B, h, w, 3] -> unit vectors float [B, D]."""
    return pool(clip, look(clip, images, half))


def look(clip: nn.Module, images: Tensor, half: bool) -> Tensor:
    """Run the trunk: uint8 [B, h, w, 3] -> float [B, C, h / 32, w / 32]."""
    with torch.autocast(images.device.type, torch.bfloat16, enabled=half):
        return backbones.run_trunk(clip, normalise(images)).float()


def normalise(images: Tensor) -> Tensor:
    """Turn uint8 [B, h, w, 3] into the trunk's input, float [B, 3, h, w]; it lies in memory with channels last."""
    mean, std = torch.tensor(MEAN, device=images.device), torch.tensor(STD, device=images.device)
    return ((images.float() / 255 - mean) / std).permute(0, 3, 1, 2)


def pool(clip: nn.Module, features: Tensor) -> Tensor:
    """Run CLIP's attention pool at any grid: float [B, C, rows, columns] -> unit vectors [B, D]."""
    return F.normalize(backbones.run_pool(clip, features), dim=-1)


def regions(clip: nn.Module, features: Tensor, owners: Tensor, cells: Tensor) -> Tensor:
    """Average the dense joint-space features over the cells of things in scenes, as RegionCLIP pools regions.

    Args:
        features: float [B, C, G, G].
        owners: int64 [N], the scene of each thing.
        cells: float [N, G * G], shares of the thing in the cells, sum 1.

    Returns:
        Unit vectors, float [N, D].
    """
    attnpool = clip.visual.attnpool
    flat = features.flatten(2).transpose(1, 2)
    mixed = torch.einsum("nl,nlc->nc", cells, flat[owners])  # both projections are linear: average first
    return F.normalize(attnpool.c_proj(attnpool.v_proj(mixed)), dim=-1)


def read(clip: nn.Module, batch: dict, tokenizer, device: str, half: bool) -> Tensor:
    """Encode a batch's texts: unit vectors float [M, D]; words and captions apart, each part cut to its own length."""
    bare, prefix = batch["bare"], batch["prefix"].to(device)
    parts = [(batch["vocabulary"][:bare], prefix[:bare]), (batch["vocabulary"][bare:], prefix[bare:])]
    with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=half):
        texts = [encode_text(clip, tokenizer(part).to(device), unknown) for part, unknown in parts if part]
    return F.normalize(torch.cat(texts).float(), dim=-1)


def forward(
    clip: nn.Module,
    head: nn.Module,
    batch: dict,
    tokenizer,
    device: str,
    texts_learn: bool,
    half: bool,
    with_regions: bool = True,
) -> dict[str, Tensor]:
    """Return the named loss terms of one batch, and the share of crops whose own word scores best."""
    bare = batch["bare"]
    with torch.set_grad_enabled(texts_learn):
        texts = read(clip, batch, tokenizer, device, half)
    bits = batch["spelling"].to(device)
    scale = clip.logit_scale.exp().clamp(max=100)
    terms = {}
    if texts_learn:
        terms["spelling_text"] = letters(head(10 * texts[:bare]), bits)
    positive = batch["positive"].to(device)
    if "crops" not in batch:  # texts only: a word, said twice behind different unknown tokens, is the same word
        again = dict(batch, prefix=torch.randn(len(texts), 2, batch["prefix"].shape[2]) * 0.02)
        other = read(clip, again, tokenizer, device, half)
        terms["words"] = losses.contrastive(other, texts, positive.T.float() @ positive.float() > 0, scale)
        return terms
    seen = see(clip, batch["crops"].to(device), half)
    count = batch["things"]  # behind them stand crops without anything: negatives only
    words, labels = batch["is_word"].to(device)[:count], batch["labels"].to(device)[:count]
    own = F.pad(positive[:count], (0, 0, 0, len(seen) - count))
    terms["spelling_image"] = letters(head(10 * seen[:count][words]), bits[labels[words]])
    terms["words"] = losses.contrastive(seen, texts, own, scale)
    if "scenes" in batch:
        features = look(clip, batch["scenes"].to(device), half)
        terms["scenes"] = losses.contrastive(pool(clip, features), texts, batch["scene_has"].to(device), scale)
        if with_regions:
            parts = regions(clip, features, batch["owners"].to(device), batch["cells"].to(device))
            terms["regions"] = losses.contrastive(parts, texts, positive[count:], scale)
    with torch.no_grad():
        terms["accuracy"] = own.gather(1, (seen @ texts.T).argmax(1, keepdim=True))[:count].float().mean()
    return terms


def letters(logits: Tensor, bits: Tensor) -> Tensor:
    """Binary cross-entropy summed over the [N, P] places, per letter that is there: a scalar around 1 at first."""
    return F.binary_cross_entropy_with_logits(logits, bits, reduction="sum") / bits.sum().clamp(min=1)


def encode_text(clip: nn.Module, tokens: Tensor, prefix: Tensor) -> Tensor:
    """Encode texts behind unknown tokens; without any the same as CLIP's ``encode_text``.

    Args:
        tokens: int64 [N, L].
        prefix: embeddings of unknown tokens between start and text, float [N, k, W]; k may be 0.

    Returns:
        float [N, D]. With random prefixes the tower learns that a text may stand behind tokens it does not know,
        as CLIP learns from its captions; FDP's learned contexts are such tokens.
    """
    eot = tokens.argmax(1)
    tokens = tokens[:, : int(eot.max()) + 1]
    x = clip.token_embedding(tokens)
    x = torch.cat([x[:, :1], prefix, x[:, 1:]], dim=1)
    return backbones.run_text_tower(clip, x, eot + prefix.shape[1])


def write(path: Path, clip: nn.Module, recipe: dict[str, Any], step: int, bits: int = 16) -> None:
    """Write a compact CLIP's weights, half precision or fewer ``bits`` a number, with what made them."""
    state = {k: v.half() if v.is_floating_point() else v for k, v in clip.state_dict().items() if k != "attn_mask"}
    state = {k: v.cpu().contiguous() for k, v in state.items()} if bits == 16 else weights.pack(state, bits)
    meta = {"config": json.dumps(MINI), "recipe": json.dumps(recipe), "step": str(step)}
    atomic_write_bytes(path, safetensors.torch.save(state, meta))


def total(terms: dict[str, Tensor], recipe: Recipe, step: int) -> Tensor:
    """Sum the weighted loss terms of a step."""
    late = step >= recipe.late_from
    loss = terms["words"] + (recipe.late_weight if late else recipe.global_weight) * terms.get("scenes", 0.0)
    loss = loss + (recipe.late_weight if late else recipe.region_weight) * terms.get("regions", 0.0)
    return loss + recipe.spelling_weight * (terms.get("spelling_text", 0.0) + terms.get("spelling_image", 0.0))


def rate(recipe: Recipe, step: int) -> float:
    """Return the learning rate of a step: warm-up, then half a cosine; both anew for the late steps."""
    if step >= recipe.late_from:
        return recipe.late_lr * training.cosine(step - recipe.late_from, recipe.steps - recipe.late_from, 50)
    return recipe.lr * training.cosine(step, recipe.cosine, recipe.warmup)


@training.interruptible()
def train(
    out: Path, recipe: Recipe, bank: Bank, device: str, workers: int, stop_at: int | None = None, half: bool = True
) -> None:
    """Run or resume; writes ``state.pt``, ``log.jsonl`` and ``mini.safetensors`` (EMA, fp16) to ``out``."""
    torch.manual_seed(recipe.seed)
    clip = weights.build_mini(MINI).to(device).to(memory_format=torch.channels_last)
    head = nn.Linear(MINI["embed_dim"], batches.SIZE).to(device)
    nn.init.constant_(head.bias, -3.0)  # few places hold a given letter
    ema = copy.deepcopy(clip)
    groups = training.groups([*clip.parameters(), *head.parameters()], recipe.weight_decay)
    optimiser = torch.optim.AdamW(groups, lr=recipe.lr, betas=(0.9, 0.98), fused=True)
    modules = {"model": clip, "head": head, "ema": ema}
    run = training.Run(out / "state.pt", modules, optimiser, asdict(recipe), out / "log.jsonl")
    tokenizer = weights.CharTokenizer(MINI["text_cfg"]["context_length"])
    seen = run.log[-1].get("words_seen", 0) if run.log else 0

    save = functools.partial(write, out / "mini.safetensors", ema, asdict(recipe))
    for step, batch in run.batches(Batches(recipe, bank), save, workers, every=250, last=stop_at):
        clip.train()
        if step >= recipe.still_from:
            for layer in clip.visual.modules():
                if isinstance(layer, nn.BatchNorm2d):
                    layer.eval()
        texts_learn = step < recipe.text_steps or step % recipe.text_every == 0
        terms = forward(clip, head, batch, tokenizer, device, texts_learn, half, step >= recipe.regions_from)
        seen, lr = seen + len(batch.get("crops", ())), rate(recipe, step)
        shown = {"lr": lr, "words_seen": seen, "scale": clip.logit_scale.detach().exp()}
        run.update(total(terms, recipe, step), lr, shown | terms, largest=1.0)
        training.average(ema, clip, min(recipe.ema, (step + 1) / (step + 10)))


def main() -> None:
    """Parse the command line and train."""
    parser = training.options(__doc__, "folder of the run; an existing run is resumed", True, **asdict(Recipe()))
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--stop-at", type=int, help="stop and save after this step; the learning rate follows --steps")
    args = training.parse(parser)
    recipe = Recipe(**{name: getattr(args, name) for name in asdict(Recipe())})
    train(args.out, recipe, Bank(args.bank), args.device, args.workers, args.stop_at, not args.full_precision)


if __name__ == "__main__":
    main()
