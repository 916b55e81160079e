"""How the backbones that ship are made: renderer, bank of scenes, pre-training."""
