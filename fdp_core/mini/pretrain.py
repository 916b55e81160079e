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

import argparse
import json
import math
import time
from dataclasses import asdict
from pathlib import Path

import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fdp_core import backbones, losses, weights
from fdp_core.files import atomic_write_bytes, atomic_write_text
from fdp_core.mini import batches
from fdp_core.mini.bank import Bank
from fdp_core.mini.batches import Batches, Recipe
from fdp_core.training.state import load_optimiser, read_state, write_state

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
    mean, std = torch.tensor(MEAN, device=images.device), torch.tensor(STD, device=images.device)
    x = ((images.float() / 255 - mean) / std).permute(0, 3, 1, 2)  # channels last already
    with torch.autocast(images.device.type, torch.bfloat16, enabled=half):
        return backbones.run_trunk(clip, x).float()


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


def total(terms: dict[str, Tensor], recipe: Recipe, step: int) -> Tensor:
    """Sum the weighted loss terms of a step."""
    late = step >= recipe.late_from
    loss = terms["words"] + (recipe.late_weight if late else recipe.global_weight) * terms.get("scenes", 0.0)
    loss = loss + (recipe.late_weight if late else recipe.region_weight) * terms.get("regions", 0.0)
    return loss + recipe.spelling_weight * (terms.get("spelling_text", 0.0) + terms.get("spelling_image", 0.0))


def rate(recipe: Recipe, step: int) -> float:
    """Return the learning rate of a step: warm-up, then half a cosine; both anew for the late steps."""
    if step >= recipe.late_from:
        done = step - recipe.late_from
        left = math.cos(math.pi * done / (recipe.steps - recipe.late_from))
        return recipe.late_lr * min(1.0, (done + 1) / 50) * 0.5 * (1 + left)
    return recipe.lr * min(1.0, (step + 1) / recipe.warmup) * 0.5 * (1 + math.cos(math.pi * step / recipe.cosine))


def train(
    out: Path, recipe: Recipe, bank: Bank, device: str, workers: int, stop_at: int | None = None, half: bool = True
) -> None:
    """Run or resume; writes ``state.pt``, ``log.jsonl`` and ``mini.safetensors`` (EMA, fp16) to ``out``."""
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(recipe.seed)
    clip = weights.build_mini(MINI).to(device).to(memory_format=torch.channels_last)
    head = nn.Linear(MINI["embed_dim"], batches.SIZE).to(device)
    nn.init.constant_(head.bias, -3.0)  # few places hold a given letter
    ema = {k: v.detach().clone().float() for k, v in clip.state_dict().items()}
    both = [*clip.parameters(), *head.parameters()]
    matrices, rest = [p for p in both if p.ndim >= 2], [p for p in both if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": recipe.weight_decay}, {"params": rest, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=recipe.lr, betas=(0.9, 0.98), fused=True)
    first = _resume(out, recipe, clip, head, ema, optimiser)
    if first >= min(recipe.steps, stop_at or recipe.steps):
        return  # nothing is left to do: the files stay as they are
    tokenizer = weights.CharTokenizer(MINI["text_cfg"]["context_length"])
    data = torch.utils.data.Subset(Batches(recipe, bank), range(first, recipe.steps))
    loader = torch.utils.data.DataLoader(
        data, batch_size=None, num_workers=workers, prefetch_factor=8 if workers else None
    )
    seen, spent = _so_far(out / "log.jsonl", first)
    began, step = time.time() - spent, first
    try:
        for step, batch in enumerate(loader, start=first):
            clip.train()
            if step >= recipe.still_from:
                for layer in clip.visual.modules():
                    if isinstance(layer, nn.BatchNorm2d):
                        layer.eval()
            for group in optimiser.param_groups:
                group["lr"] = rate(recipe, step)
            texts_learn = step < recipe.text_steps or step % recipe.text_every == 0
            torch.manual_seed(recipe.seed + step)  # a resumed run draws the same unknown tokens
            with_regions = step >= recipe.regions_from
            terms = forward(clip, head, batch, tokenizer, device, texts_learn, half, with_regions)
            optimiser.zero_grad(set_to_none=True)
            total(terms, recipe, step).backward()
            nn.utils.clip_grad_norm_(both, 1.0)
            optimiser.step()
            _average(ema, clip, min(recipe.ema, (step + 1) / (step + 10)))
            seen += len(batch.get("crops", ()))
            if step % 20 == 0:
                line = {"step": step, "lr": rate(recipe, step), "words_seen": seen}
                line |= {"seconds": round(time.time() - began, 1)}
                line |= {"scale": round(float(clip.logit_scale.detach().exp()), 2)}
                line |= {k: round(float(v.detach()), 4) for k, v in terms.items()}
                with open(out / "log.jsonl", "a", encoding="utf-8") as log:
                    log.write(json.dumps(line) + "\n")
                print(line, flush=True)
            if (step + 1) % 250 == 0:
                _save(out, recipe, clip, head, ema, optimiser, step + 1)
            if stop_at and step + 1 >= stop_at:
                break
        step += 1
    except KeyboardInterrupt:
        print("Interrupted: the last saved step is kept; run the same command to go on.")
        return
    _save(out, recipe, clip, head, ema, optimiser, step)


def _so_far(log: Path, first: int) -> tuple[int, float]:
    """Return (words seen, seconds) at step ``first`` of a resumed run; later lines, of lost steps, are dropped."""
    lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
    kept = [line for line in lines if json.loads(line)["step"] < first]
    if len(kept) < len(lines):
        atomic_write_text(log, "".join(line + "\n" for line in kept))
    last = json.loads(kept[-1]) if kept else {"words_seen": 0, "seconds": 0.0}
    return last["words_seen"], last["seconds"]


@torch.no_grad()
def _average(ema: dict[str, Tensor], clip: nn.Module, decay: float) -> None:
    state = clip.state_dict()
    names = [key for key, value in state.items() if value.dtype == torch.float32]
    torch._foreach_lerp_([ema[key] for key in names], [state[key] for key in names], 1 - decay)
    for key in state.keys() - set(names):
        ema[key].copy_(state[key])


def _save(
    out: Path,
    recipe: Recipe,
    clip: nn.Module,
    head: nn.Module,
    ema: dict[str, Tensor],
    optimiser: torch.optim.Optimizer,
    step: int,
) -> None:
    """Write the training state and the shippable weights, each in one piece or not at all."""
    state = {"model": clip.state_dict(), "head": head.state_dict(), "ema": ema, "optimiser": optimiser.state_dict()}
    write_state(out / "state.pt", state | {"recipe": asdict(recipe), "step": step})
    half = {k: v.half().contiguous() if v.is_floating_point() else v for k, v in ema.items()}
    half = {k: v.cpu().contiguous() for k, v in half.items() if k != "attn_mask"}
    meta = {"config": json.dumps(MINI), "recipe": json.dumps(asdict(recipe)), "step": str(step)}
    atomic_write_bytes(out / "mini.safetensors", safetensors.torch.save(half, meta))


def _resume(
    out: Path,
    recipe: Recipe,
    clip: nn.Module,
    head: nn.Module,
    ema: dict[str, Tensor],
    optimiser: torch.optim.Optimizer,
) -> int:
    """Load the training state, where there is one; returns the step to go on from."""
    path = out / "state.pt"
    state = read_state(path)
    if state is None:
        return 0
    if state["recipe"] != asdict(recipe):
        raise ValueError(
            f"{path} was made with another recipe: {state['recipe']}. Use another --out or the same options."
        )
    clip.load_state_dict(state["model"])
    head.load_state_dict(state["head"])
    load_optimiser(optimiser, state["optimiser"])
    for key in ema:
        ema[key].copy_(state["ema"][key])
    return state["step"]


def main() -> None:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the run; an existing run is resumed")
    parser.add_argument("--bank", type=Path, required=True, help="folder of the scenes, from fdp_core.mini.bank")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--workers", type=int, default=1, help="processes that cut and damage")
    parser.add_argument("--threads", type=int, default=0, help="torch threads; 0: torch's default")
    parser.add_argument("--full-precision", action="store_true", help="float32 in place of bfloat16 autocast")
    parser.add_argument("--stop-at", type=int, help="stop and save after this step; the learning rate follows --steps")
    for name, value in asdict(Recipe()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    recipe = Recipe(**{name: getattr(args, name) for name in asdict(Recipe())})
    train(args.out, recipe, Bank(args.bank), args.device, args.workers, args.stop_at, not args.full_precision)


if __name__ == "__main__":
    main()
