"""The campaign of benchmarks/reliability in small: every hostile checkpoint and odd command line once, some kills."""

from __future__ import annotations

import random

import pytest
import torch

from benchmarks.reliability import kills
from benchmarks.reliability.__main__ import damaged_stores, hostile_checkpoints, odd_options
from benchmarks.reliability.checkpoints import HOSTILE
from benchmarks.reliability.options import ODD


def test_every_hostile_checkpoint_is_refused_or_harmless(tmp_path):
    assert list(hostile_checkpoints(tmp_path, random.Random(0), len(HOSTILE))) == [True] * len(HOSTILE)


def test_every_odd_command_line_ends_in_one_sentence(tmp_path):
    torch.manual_seed(0)
    assert list(odd_options(tmp_path, len(ODD))) == [True] * len(ODD)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_some_kills_and_some_damage_change_nothing(tmp_path):
    kills.finish(tmp_path / "reference")
    rng = random.Random(0)
    assert all(kills.of_solves(tmp_path, rng, 2))
    assert all(kills.of_restorations(tmp_path, rng, 1))
    assert all(damaged_stores(tmp_path, tmp_path / "reference", rng, 3))
