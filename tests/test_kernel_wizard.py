"""The kernel wizard has the published keys; its code belongs to the measurement."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import invsolve as iv
from invsolve import operators
from invsolve.testing.examples import example

KEYS = Path(__file__).parent / "data" / "bkse_kernelwizard_keys.json"


def test_the_network_has_the_published_keys_and_shapes():
    published = json.loads(KEYS.read_text())
    with torch.device("meta"):
        network = operators.KernelWizard()
    ours = [[name, list(value.shape)] for name, value in network.state_dict().items()]
    used = [pair for pair in published["keys"] if not pair[0].startswith("kernel_extractor.")]
    assert sorted(ours) == sorted(used)
    assert sum(value.numel() for value in network.state_dict().values()) == published["n_params_used_by_adaptKernel"]


def test_the_code_is_drawn_once_and_selected_with_the_sample():
    network = example("kernel-wizard-blur").operator.network
    drawn = operators.KernelWizardBlur.draw((3, 128, 128), network, iv.Rng(1), samples=3)
    x = torch.rand(3, 3, 128, 128, dtype=torch.float64)
    torch.testing.assert_close(drawn(x), drawn(x), rtol=0, atol=0)
    rows = torch.tensor([2, 0])
    torch.testing.assert_close(drawn.select(rows)(x[rows]), drawn(x)[rows])
    blind = operators.KernelWizardBlur((3, 128, 128), network)
    torch.testing.assert_close(blind(x, {"code": drawn.code}), drawn(x))


def test_another_precision_leaves_the_network_as_it_is():
    drawn, x = example("kernel-wizard-blur").operator, torch.rand(1, 3, 128, 128, dtype=torch.float64)
    with torch.no_grad():
        for weight in drawn.network.parameters():
            weight += 1e-9 * torch.sign(weight)  # which single precision cannot hold
        before = drawn(x)
        assert drawn(x.float()).dtype == torch.float32
        assert torch.equal(drawn(x), before)


def test_weights_are_read_without_running_anything_and_errors_say_what_to_do(tmp_path):
    with pytest.raises(iv.InputError, match=r"GOPRO_wVAE\.pth"):
        operators.KernelWizardBlur.load(tmp_path / "none.pth")
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(iv.InputError, match="does not hold the weights"):
        operators.KernelWizardBlur.load(tmp_path / "other.pth")
