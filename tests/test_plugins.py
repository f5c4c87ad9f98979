"""Checks with diagnoses, plugins, the template and the tutorial: how somebody else's operator comes in."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import invsolve as iv
from invsolve.commands.cli import main
from invsolve.commands.new import write_package
from invsolve.core.registry import Registry
from invsolve.io import Image, write_image

ROOT = Path(__file__).parent.parent

BROKEN = """
import torch
from invsolve import LinearOperator, Operator

class _Same(Operator):
    def __init__(self, in_shape):
        self.in_shape = self.out_shape = tuple(in_shape)

class _Linear(LinearOperator, _Same):
    pass

class HiddenDraw(_Same):
    def forward(self, x, theta={}):
        return x + 0.1 * torch.randn_like(x)

class SeededDraw(_Same):
    def forward(self, x, theta={}):
        torch.manual_seed(0)
        return x + 0.1 * torch.randn_like(x)

class WrongAdjoint(_Linear):
    def forward(self, x, theta={}):
        return x.cumsum(-1)
    def adjoint(self, y, theta={}):
        return y.cumsum(-1)

class ScaledAdjoint(_Linear):
    def forward(self, x, theta={}):
        return 2 * x
    def adjoint(self, y, theta={}):
        return y

class NoBatch(_Same):
    def forward(self, x, theta={}):
        return x.mean(0)

class OverBatch(_Same):
    def forward(self, x, theta={}):
        return x / x.norm()

class WrongShape(_Same):
    def forward(self, x, theta={}):
        return x[..., 1:]

class Detached(_Same):
    def forward(self, x, theta={}):
        return torch.from_numpy(x.detach().numpy() ** 2)

class Rounded(_Same):
    def forward(self, x, theta={}):
        return x + (torch.round(x * 8) / 8 - x).detach()

class Levels(_Same):
    def forward(self, x, theta={}):
        return (x * 255).round() / 255

class Bytes(_Same):
    def forward(self, x, theta={}):
        return 255 * x

class Root(_Same):
    def forward(self, x, theta={}):
        return x ** 0.45

class Centred(_Same):
    def forward(self, x, theta={}):
        return (4 * x - 3).clamp(-1, 1)

class Signed(_Same):
    def forward(self, x, theta={}):
        return ((x + 1) / 2).clamp(0, 1) ** 2.2

class SignedOutput(_Same):
    def forward(self, x, theta={}):
        return 2 * x - 1

class FromBytes(_Same):
    def forward(self, x, theta={}):
        return (x / 255).clamp(0, 1)

class Asserts(_Same):
    def forward(self, x, theta={}):
        assert x.min() >= 0 and x.max() <= 1
        return x**2

class LeftBehind(_Same):
    def forward(self, x, theta={}):
        return x * torch.linspace(0.5, 1, x.shape[-1], dtype=x.dtype)

class LargePinv(_Linear):
    def __init__(self, in_shape):
        super().__init__(in_shape)
        self.out_shape = (1, *self.in_shape[1:])
    def forward(self, x, theta={}):
        return x[:, :1]
    def pinv(self, y, theta={}):
        return torch.cat([y, y, y], 1)

class Single(_Same):
    def forward(self, x, theta={}):
        return (x.float() * torch.ones(3, 1, 1)).float()

class NotLinear(_Linear):
    def forward(self, x, theta={}):
        return x ** 2

class Offset(_Linear):
    def forward(self, x, theta={}):
        return x + 1

class Good(_Linear):
    def forward(self, x, theta={}):
        return x.flip(-1)
"""

DIAGNOSES = {
    "HiddenDraw": ("deterministic", "random draw is hidden"),
    "SeededDraw": ("global generator untouched", "random draw is hidden"),
    "WrongAdjoint": ("<A x, y> = <x, A^T y>", "not the transpose"),
    "ScaledAdjoint": ("<A x, y> = <x, A^T y>", "the transpose times 0.5"),
    "NoBatch": ("output shape", "batch dimension is lost"),
    "OverBatch": ("samples independent of their batch", "runs over the batch"),
    "WrongShape": ("output shape", "out_shape says [3, 32, 32], forward makes [3, 32, 31]"),
    "Detached": ("differentiable", "leaves torch"),
    "Rounded": ("vjp against finite differences", "jumps"),
    "Levels": ("vjp against finite differences", "jumps"),
    "Bytes": ("values of an image", "0 to 255"),
    "Root": ("finite beyond [0, 1]", "clamp"),
    "Centred": ("sees all of [0, 1]", "[-1, 1]"),
    "Signed": ("takes images in [0, 1]", "[-1, 1]"),
    "SignedOutput": ("takes images in [0, 1]", "[-1, 1]"),
    "FromBytes": ("sees the image", "0 to 255"),
    "Asserts": ("finite beyond [0, 1]", "clamp"),
    "LargePinv": ("A^+ A = I on the range of A^T", "not the smallest"),
    "Single": ("output precision", "float64 in, torch.float32 out"),
    "NotLinear": ("linear", "derive from Operator"),
    "Offset": ("linear", "the offset belongs to y"),
}


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "broken_operators.py").write_text(BROKEN)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "broken_operators"
    sys.modules.pop("broken_operators", None)


@pytest.mark.parametrize("name", DIAGNOSES)
def test_each_mistake_is_caught_with_the_right_diagnosis(module, name, capsys):
    assert main(["check", f"{module}:{name}"]) == 1
    report = capsys.readouterr().out
    check, words = DIAGNOSES[name]
    line = next(line for line in report.splitlines() if line.startswith(f"FAIL  {check}"))
    assert words in line, report


@pytest.mark.parametrize("name", ["HiddenDraw", "SeededDraw"])
def test_what_draws_is_told_so_and_nothing_else(module, name, capsys):
    assert main(["check", f"{module}:{name}"]) == 1
    failures = [line for line in capsys.readouterr().out.splitlines() if line.startswith("FAIL")]
    assert failures
    assert all("a random draw is hidden" in line for line in failures)


@pytest.mark.skipif(torch.cuda.is_available(), reason="an accelerator says so in its own words")
def test_a_constant_that_stays_on_the_cpu_is_noted(module, capsys):
    assert main(["check", f"{module}:LeftBehind"]) == 0
    assert "a constant stays on the CPU" in capsys.readouterr().out


def test_a_good_operator_passes_and_bad_words_are_refused(module, capsys):
    assert main(["check", f"{module}:Good", "--in-shape", "1", "8", "8"]) == 0
    assert "ms per sample" in capsys.readouterr().out
    for words in (["check", f"{module}:None_"], ["check", f"{module}:Good", "--set", "a=1"], ["check", "denoisin"]):
        assert main(words) == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_names_of_installed_packages_are_found_and_cannot_replace_ours(monkeypatch):
    class Point:
        def __init__(self, name: str, value: str) -> None:
            self.name, self.value = name, value

    points = [Point("mine", "invsolve.operators:Denoising"), Point("own", "invsolve.operators:Blur")]
    monkeypatch.setattr("invsolve.core.registry.entry_points", lambda group: points if group == "invsolve.toys" else [])
    registry = Registry("toy", {"own": "invsolve.operators:Inpainting"})
    assert registry["mine"].__name__ == "Denoising"
    assert registry["own"].__name__ == "Inpainting"
    assert list(registry) == ["mine", "own"]
    with pytest.raises(iv.InputError, match="known: mine, own"):
        registry["theirs"]


@pytest.mark.parametrize("end", ["raise RuntimeError()", "import sys; sys.exit(3)", "import nothing_at_all"])
def test_a_plug_in_that_fails_or_ends_the_program_is_named_and_left_out(end, tmp_path, monkeypatch, caplog):
    (tmp_path / "bad_plugin.py").write_text(end)
    monkeypatch.syspath_prepend(str(tmp_path))

    class Point:
        name, value = "bad", "bad_plugin:Thing"

    monkeypatch.setattr("invsolve.core.registry.entry_points", lambda group: [Point])
    registry = Registry("toy", {"own": "invsolve.operators:Inpainting"})
    assert list(registry) == ["bad", "own"]
    assert [name for name, _ in registry.items()] == ["own"]
    assert len(list(registry.values())) == 1
    assert "the plug-in bad is left out" in caplog.text
    with pytest.raises(iv.InputError, match="'bad_plugin:Thing' cannot be loaded"):
        registry["bad"]


PLUGIN = """
from dataclasses import dataclass

import invsolve as iv
from invsolve import LinearOperator

class Grey(iv.Prior):
    schedule, value_range, bounded = iv.DDPMSchedule(), (0.0, 1.0), False
    def denoise(self, x_t, t):
        alpha, sigma = self.schedule(t)
        return 0.5 + 0.1 * alpha / (0.1 * alpha**2 + sigma**2) * (x_t - 0.5 * alpha)

grey = Grey()

def sized(size):
    return Grey()

@dataclass(frozen=True)
class Shrink(iv.Solver):
    n_steps: int = 3
    name, cite, needs = "shrink", "nobody", iv.Needs(likelihood=True)
    def steps(self, problem):
        return self.n_steps
    def init(self, problem, n, rng):
        return iv.State(rng.normal(problem.empty(n)))
    def step(self, problem, state, rng):
        x = problem.prior.denoise(0.5 * state.x, 0.3)
        return iv.State(x, state.k + 1), iv.Info(x)

class Lines(LinearOperator):
    def __init__(self, in_shape):
        self.in_shape, self.out_shape = tuple(in_shape), (in_shape[0], (in_shape[1] + 1) // 2, in_shape[2])
    def forward(self, x, theta={}):
        return x[:, :, 0::2]
"""

SUITE = """
title = "Somebody else's parts"
[data]
kind = "packaged"
size = 32
[prior]
name = "a_plugin:Grey"
[run]
metrics = ["psnr"]
[[tasks]]
name = "lines"
kind = "operator"
operator = "a_plugin:Lines"
noise = 0.01
[[solvers]]
name = "shrink"
solver = "a_plugin:Shrink"
preset = "default"
settings = { n_steps = 2 }
"""


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    (tmp_path / "a_plugin.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    yield "a_plugin"
    sys.modules.pop("a_plugin", None)


@pytest.mark.parametrize("prior", ["Grey", "grey"])
def test_restore_takes_somebody_elses_prior_and_solver(plugin, prior, tmp_path, capsys):
    write_image(tmp_path / "a.png", Image(torch.rand(3, 24, 24)))
    words = ["restore", "a.png", "--task", "denoise", "--noise", "0.1", "--prior", f"{plugin}:{prior}"]
    assert main([*words, "--solver", f"{plugin}:Shrink", "--set", "n_steps=2", "-o", "b.png"]) == 0
    assert "by shrink" in capsys.readouterr().out
    for wrong in (["--solver", f"{plugin}:Lines"], ["--prior", f"{plugin}:sized"], ["--prior", f"{plugin}:PLUGIN"]):
        assert main([*words, *wrong, "-o", "c.png"]) == 2
        assert capsys.readouterr().err.count("\n") == 1
    assert main(["priors", "show", f"{plugin}:Grey", "--set", "size=3"]) == 2
    assert "does not take size" in capsys.readouterr().err


def test_a_suite_takes_somebody_elses_parts(plugin, tmp_path, capsys):
    (tmp_path / "own.toml").write_text(SUITE)
    run = ["bench", "run", "own.toml", "--store", "runs", "--items", "1", "--workers", "1"]
    assert main(run) == 2
    assert "give --trust" in capsys.readouterr().err
    run.append("--trust")
    assert main([*run, "--set", "shrink.n_steps=3"]) == 0, capsys.readouterr().err
    assert "shrink" in capsys.readouterr().out
    assert main([*run, "--set", "shrink.n_stepps=3"]) == 2


def test_the_templates_are_working_packages(tmp_path, monkeypatch, capsys):
    folders = {kind: write_package(kind, f"line-{kind}", tmp_path) for kind in ("operator", "solver", "prior", "cost")}
    modules = [str(folder / "tests") for folder in folders.values()]
    paths = os.pathsep.join([*map(str, folders.values()), os.environ.get("PYTHONPATH", "")])
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", *modules],
        cwd=tmp_path, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": paths},
    )  # fmt: skip
    assert run.returncode == 0, run.stdout
    assert "8 passed" in run.stdout
    for kind, folder in folders.items():
        toml = (folder / "pyproject.toml").read_text()
        assert f'[project.entry-points."invsolve.{kind}s"]\nline-{kind} = "line_{kind}:Line{kind.title()}"' in toml
        monkeypatch.syspath_prepend(str(folder))
        assert main(["check", f"line_{kind}:Line{kind.title()}"]) == 0
        assert re.search(r"all \d+ checks passed\n$", capsys.readouterr().out)
    with pytest.raises(iv.InputError, match="exists"):
        write_package("solver", "line-solver", tmp_path)
    with pytest.raises(iv.InputError, match="a name must be letters"):
        write_package("solver", "2fast!", tmp_path)
    for kind, name in (("operator", "blur"), ("solver", "dps"), ("prior", "natural"), ("cost", "Gaussian")):
        with pytest.raises(iv.InputError, match=f"one of invsolve's own {kind}s"):
            write_package(kind, name, tmp_path)
    with pytest.raises(iv.InputError, match="a Python keyword"):
        write_package("operator", "lambda", tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(f"line-{kind}" for kind in folders)


def test_check_says_what_a_name_stands_for(capsys):
    assert main(["check", "poisson"]) == 0
    assert "the density integrates to 1" in capsys.readouterr().out
    assert main(["check", "ddim", "--set", "n_steps=3", "--skip", "the same again"]) == 0
    assert "DDIM(n_steps=3" in capsys.readouterr().out
    for words, message in (
        (["check", "posson"], "did you mean 'poisson'"),
        (["check", "ddim", "--set", "n_steps=0"], "n_steps must be a whole number"),
        (["check", "gaussian", "--set", "wide=3"], "cannot be created"),
    ):
        assert main(words) == 2
        assert message in capsys.readouterr().err


def test_the_tutorial_runs(capsys):
    text = (ROOT / "docs" / "tutorial.md").read_text()
    code = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(code) == 4
    assert code[0].count("\n") <= 15
    space: dict = {"__name__": "tutorial"}
    with torch.random.fork_rng():
        for block in code:
            exec(
                compile(
                    block.replace(
                        "report = check_operator(Interlace((3, 8, 8)))",
                        "report = check_operator(Interlace((3, 8, 8)), skip=('pickles',))",
                    ),
                    "tutorial",
                    "exec",
                ),
                space,
            )
    assert float(space["psnr"]) > 30
    assert capsys.readouterr().out.count(" dB") == 4


def matrix():
    spec = importlib.util.spec_from_file_location("make_operators", ROOT / "docs" / "make_operators.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_matrix_on_the_page_is_the_stored_one_and_a_part_of_it_runs_as_it_says():
    made, stored = matrix(), json.loads((ROOT / "docs" / "operators.json").read_text())
    assert (ROOT / "docs" / "operators.md").read_text() == made.page(stored), "run python docs/make_operators.py"
    assert sorted(stored) == sorted(iv.operators.OPERATORS)
    for operator, solver in (("jpeg", "ndtm"), ("jpeg", "ddrm"), ("mri", "pigdm"), ("shifted-mask", "ndtm")):
        assert made.run_one(operator, solver) == stored[operator][solver]
    assert made.run_one("invsolve.operators.pointwise:Denoising", "ndtm") == "ok"  # without an example of its own


def test_every_gradient_solver_ran_on_every_operator_and_the_others_say_what_is_missing():
    blind = {"blind-blur", "blind-downsampling", "shifted-mask", "tone-curve"}
    kinds = {name: kind for name, kind in iv.solvers.SOLVERS.items() if kind.needs.cost}
    for operator, row in json.loads((ROOT / "docs" / "operators.json").read_text()).items():
        assert sorted(row) == sorted(kinds)
        for name, said in row.items():
            needs = kinds[name].needs
            if operator in blind and not needs.blind:
                assert "cannot estimate unknown operator parameters" in said
            elif not (needs.linear or needs.svd):
                assert said == "ok" or "pip install" in said, (operator, name, said)
            else:
                assert said == "ok" or "needs a" in said or "pip install" in said, (operator, name, said)
