"""Tests of the configuration and its presets."""

from __future__ import annotations

import dataclasses
import json

import pytest

from fdp_core import config


@pytest.mark.parametrize("name", sorted(config.PRESETS))
def test_presets_survive_json(name):
    preset = config.preset(name)
    assert config.Config.from_json(preset.to_json()) == preset
    assert list(json.loads(preset.to_json())) == sorted(field.name for field in dataclasses.fields(preset))


def test_default_is_the_better_choice_and_paper_compat_the_released_one():
    default, compat = config.preset("default"), config.preset("paper_compat")
    for name, better, released in [
        ("fit", "letterbox", "centre_crop"),
        ("position_resize", "2d", "flat_nearest"),
        ("shift_heads", "per_image", "released_order"),
        ("distraction_target", "temperature", "inverse"),
        ("target_pool", "area", "nearest"),
        ("loc_balance", "image", "batch"),
        ("positives", "multi", "single"),
        ("mask_padding", True, False),
        ("drop_true_distractors", True, False),
    ]:
        assert (getattr(default, name), getattr(compat, name)) == (better, released)


def test_the_released_code_crops_in_training_and_pads_in_retrieval():
    assert config.preset("default").retrieval_fit == "letterbox"
    assert config.preset("default", fit="centre_crop").retrieval_fit == "centre_crop"
    compat = config.preset("paper_compat")
    assert (compat.fit, compat.retrieval_fit) == ("centre_crop", "letterbox")


def test_configuration_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.Config().epochs = 3
    assert config.Config().replace(epochs=3).epochs == 3


def test_misspelt_switches_are_errors():
    with pytest.raises(ValueError, match="Config.probe is 'spatail'; expected one of spatial, official, off"):
        config.Config(probe="spatail")
    with pytest.raises(TypeError, match="epoch"):
        config.Config().replace(epoch=3)
    with pytest.raises(ValueError, match="Unknown configuration keys: epoch"):
        config.Config.from_json('{"epoch": 3}')
    with pytest.raises(ValueError, match="Unknown preset 'papre'"):
        config.preset("papre")
    with pytest.raises(ValueError, match="multiple of 32"):
        config.Config(image_size=600)
