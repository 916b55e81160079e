"""A small training, started by torchrun (run by test_training)."""

import sys

import torch
import torch.distributed as dist
from test_training import fresh, make_backbone, make_world, run

if __name__ == "__main__":
    folder, epochs = sys.argv[1:]
    dist.init_process_group("gloo")
    backbone = make_backbone()
    model, world = fresh(backbone, probe_dropout=0.0, epochs=int(epochs)), make_world(backbone)
    if dist.get_rank():
        for weight in model.parameters():
            if weight.requires_grad:
                torch.nn.init.normal_(weight)  # the first process's weights count
    run(model, world, folder)
    dist.destroy_process_group()
