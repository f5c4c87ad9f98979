"""Intervals: scores with known values, calibration that covers what it promises, and words where it does not."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from scipy import stats

import invsolve as iv
from invsolve import costs, operators, priors, restore, solvers
from invsolve.bench.intervals import check_calibrations
from invsolve.bench.suite import TaskSpec
from invsolve.commands.cli import main
from invsolve.core.checks import CapabilityError, InputError, ShapeError
from invsolve.core.schedule import Step
from invsolve.io import Image, write_image
from invsolve.metrics import METRICS, Case
from invsolve.metrics.intervals import FLOOR, ause, interval_score, paired_crps, pixel_deviation, pixel_scale, student
from invsolve.priors.network import weights_of
from invsolve.priors.traits import traits_named
from invsolve.restoration import conformal
from invsolve.restoration.calibration import WIDER, Calibration, Cell, packaged_calibration
from invsolve.restoration.conformal import LEVELS, quantiles
from invsolve.restoration.uncertainty import Uncertainty
from invsolve.solvers import MMPS
from invsolve.solvers.steps.updates import multistep
from invsolve.tasks.blind_deblur import BlindDeblur
from invsolve.tasks.deblur import Deblur
from invsolve.tasks.inpaint import Inpaint
from invsolve.testing.toy import textures
from invsolve.tune import calibrate as calibrate_module
from invsolve.tune.calibrate import BLIND_NOISE, STANDARD, Setup, calibrate, cell_of
from invsolve.tune.case import Case as Known

G = torch.Generator().manual_seed(0)


def cell(kind="denoise", severity=1.0, noise=0.1, q=(0.5, 1.0, 2.0, 3.0), **groups):
    table = groups or {"all": q}
    twice = {k: [2 * x for x in v] for k, v in table.items()}
    return Cell(kind, severity, noise, 10**9, table, twice, q, {"task": "t"})


def table(*cells, samples=6, **changes):
    content = {"prior": "natural", "solver": "", "settings": {}, "samples": samples, "centre": "point"}
    return Calibration(**{**content, **changes}, photographs={"count": 16, "size": 64, "digest": "ab"}, cells=cells)


# Scores


def test_the_scale_follows_the_deviation_of_pixels_and_of_their_region():
    from scipy.ndimage import gaussian_filter

    def under(values, radius):
        return torch.stack([
            torch.as_tensor(gaussian_filter(plane, radius, mode="nearest", truncate=3.0)) for plane in values.numpy()
        ])  # fmt: skip

    samples = torch.rand(5, 2, 24, 30, generator=G, dtype=torch.float64)
    std = samples.std(0)
    deviation = (under(std, 1.0) + under(std, 6.0)) / 2 + FLOOR
    torch.testing.assert_close(pixel_deviation(samples), deviation)
    torch.testing.assert_close(pixel_scale(samples), deviation * ((under(std, 12.0) + FLOOR) / 0.02) ** 0.2)
    known = torch.rand(24, 30, generator=G) < 0.6
    weight = known.double().expand(2, -1, -1)
    near, wide, region = (under(std * weight, radius) / under(weight, radius) for radius in (1.0, 6.0, 12.0))
    want = ((near + wide) / 2 + FLOOR) * ((region + FLOOR) / 0.02) ** 0.2
    torch.testing.assert_close(pixel_scale(samples, known)[:, known], want[:, known])
    torch.testing.assert_close(pixel_scale(samples, ~known)[:, known], want[:, known])
    for scale in (pixel_scale, pixel_deviation):
        with pytest.raises(ShapeError, match="at least 2"):
            scale(samples[:1])


def test_the_interval_score_is_least_at_the_true_quantiles():
    truth = torch.randn(200_000, generator=G)
    right = 1.6449
    scores = {
        half: interval_score(torch.full_like(truth, -half), torch.full_like(truth, half), truth, 0.9)
        for half in (0.8 * right, right, 1.2 * right)
    }
    assert min(scores, key=lambda half: scores[half]) == right
    inside = interval_score(torch.tensor([0.0]), torch.tensor([1.0]), torch.tensor([0.5]), 0.9)
    outside = interval_score(torch.tensor([0.0]), torch.tensor([1.0]), torch.tensor([1.1]), 0.9)
    assert (inside, outside) == (1.0, pytest.approx(3.0))


def test_ause_is_nothing_for_the_order_of_the_errors_and_largest_for_its_reverse():
    error = torch.rand(5000, generator=G)
    assert ause(error, error) == pytest.approx(0.0, abs=1e-12)
    assert ause(error, torch.rand(5000, generator=G)) == pytest.approx(0.5, abs=0.03)  # uniform: 1 against 1 - f
    assert ause(error, -error) == pytest.approx(1.0, abs=0.03)


def test_student_intervals_of_gaussian_samples_hold_one_more_draw():
    """4 standard errors of 40 000 draws: off by more once in 10 000 seeds."""
    for count in (2, 6):
        draws = torch.randn(count + 1, 40_000, generator=G, dtype=torch.float64)
        half = student(0.9, count) * draws[:-1].std(0)
        inside = ((draws[-1] - draws[:-1].mean(0)).abs() <= half).double().mean()
        assert abs(float(inside) - 0.9) < 4 * 0.3 / 200


def test_the_crps_of_antithetic_pairs_is_that_of_their_law():
    """N(0, 1) against 0.3: 5 standard errors of 40 000 triples of pairs, off by more once in a million seeds."""
    z = torch.randn(3, 40_000, generator=G, dtype=torch.float64)
    pairs = torch.stack([z, -z], 1).view(6, 1, 1, -1)
    y, phi = 0.3, math.exp(-(0.3**2) / 2) / math.sqrt(2 * math.pi)
    want = y * math.erf(y / math.sqrt(2)) + 2 * phi - 1 / math.sqrt(math.pi)
    assert paired_crps(pairs, torch.full((1, 1, 40_000), y)) == pytest.approx(want, abs=5 * 0.5 / 200)
    assert math.isnan(paired_crps(pairs[:2], torch.zeros(1, 1, 40_000)))


def test_the_leaderboard_has_metrics_of_intervals():
    truth = torch.zeros(3, 32, 32)
    samples = 0.1 * torch.randn(8, 3, 32, 32, generator=G)
    of = {
        n: METRICS[n].values(METRICS[n].load(), [Case(samples[0], truth)], samples)[0]
        for n in ("width90", "energy-score", "ause")
    }
    assert of["width90"] == pytest.approx(2 * student(0.9, 8) * 0.1, rel=0.05)
    assert 0 < of["energy-score"] < 0.1
    assert 0 <= of["ause"] <= 1
    assert METRICS["width90"].values(METRICS["width90"].load(), [], samples[:1]) == []


# Calibration


def test_q_covers_the_level_over_images_of_any_size_and_for_most_images():
    rows = [torch.arange(1.0, 1001.0), 100 * torch.arange(1.0, 11.0)]  # equal weights whatever the number of pixels
    average, _ = quantiles([{"all": row} for row in rows])
    for level, q in zip(LEVELS, average["all"], strict=True):
        covered = sum(float((row <= q).double().mean()) for row in rows) / 2
        assert level <= covered < level + 0.06
    many = [torch.full((10,), float(i)) for i in range(1, 101)]
    for count in (12, 37, 38, 100):
        _, image = quantiles([{"all": row} for row in many[:count]])
        k = int(image["all"][LEVELS.index(0.9)])
        assert k == count or stats.beta.sf(0.9, k, count + 1 - k) >= 0.9
        assert stats.beta.sf(0.9, k - 1, count + 2 - k) < 0.9
    assert k == 95
    with pytest.raises(InputError, match="needs images"):
        quantiles([])


def test_each_group_has_its_own_q_and_all_are_widened_alike_for_whole_images():
    """Errors of edges five times as large, at more pixels in some images: each group is covered as promised."""
    draw = torch.Generator().manual_seed(1)
    images = [
        {"flat": scale * torch.rand(3, 900 - n, generator=draw), "edges": 5 * scale * torch.rand(3, n, generator=draw)}
        for n, scale in zip(range(100, 500, 25), torch.linspace(0.5, 1.5, 16).tolist(), strict=True)
    ]
    average, image = quantiles(images)
    for k, level in enumerate(LEVELS):
        for name in ("flat", "edges"):
            pooled = torch.cat([row[name].flatten() for row in images])
            assert float((pooled <= average[name][k]).double().mean()) == pytest.approx(level, abs=2e-3)
        assert image["flat"][k] / average["flat"][k] == pytest.approx(image["edges"][k] / average["edges"][k])
        kept = [(sum(int((row[n] <= image[n][k]).sum()) for n in row) / (3 * 900)) >= level - 1e-9 for row in images]
        assert all(kept)  # of 16 images the largest factor is taken
    few = [{"flat": torch.rand(500, generator=draw), "edges": 9 + torch.rand(5, generator=draw)} for _ in range(4)]
    average, _ = quantiles(few)
    assert average["edges"] == quantiles([{"all": torch.cat(list(row.values()))} for row in few])[0]["all"]


def test_groups_follow_what_goes_on_in_the_point_estimate():
    image = torch.full((3, 40, 60), 0.5)
    image[:, :, 20:40] += 0.03 * torch.arange(20) - 0.2  # a slope of 0.03 a pixel is texture
    image[:, :, 50:] = 0.0
    found = conformal.groups(image, None)
    assert bool(found["flat"][:, :15].all())
    assert bool(found["texture"][:, 25:36].all())
    assert bool(found["edges"][:, 49].all())
    assert int(sum(part.sum() for part in found.values())) == 40 * 60
    known = torch.rand(40, 60, generator=G) < 0.5
    sides = conformal.groups(image, known)
    assert set(sides) == {f"{side} {part}" for side in ("known", "missing") for part in ("flat", "texture", "edges")}
    assert torch.equal(sides["known flat"] | sides["missing flat"], found["flat"])
    assert not bool((sides["known edges"] & ~known).any())


def test_q_passes_from_group_to_group_within_a_factor_of_two_of_the_activity():
    """A slope that grows: q of the groups away from the thresholds, half way between two at a threshold."""
    rise = torch.logspace(-3, -0.7, 400, dtype=torch.float64)
    image = rise.cumsum(0).expand(3, 12, -1).contiguous()
    found = conformal.activity(image)[6]
    q = conformal.blended({"flat": 1.0, "texture": 2.0, "edges": 5.0}, image, None)[6]
    low, high = conformal.PARTS
    for inside, want in (
        (found < low / 1.5, 1.0),
        ((found > 1.5 * low) & (found < high / 1.5), 2.0),
        (found > 1.5 * high, 5.0),
    ):
        assert bool((q[inside] == want).all())
        assert int(inside.sum()) > 10
    for threshold, want in ((low, 1.5), (high, 3.5)):
        assert float(q[(found - threshold).abs().argmin()]) == pytest.approx(want, rel=0.03)
    assert bool((q.diff()[5:-5] >= -1e-9).all())
    known = torch.arange(400).expand(12, -1) % 2 == 0
    sides = {
        f"{side} {part}": (1.0 if side == "known" else 7.0)
        for side in ("known", "missing")
        for part in ("flat", "texture", "edges")
    }
    assert torch.equal(conformal.blended(sides, image, known), torch.where(known, 1.0, 7.0).double())


def cases(count, narrow=0.5, seed=0):
    """Images whose truth is one more draw of the law that the samples' deviation is `narrow` times too small for."""
    draw = torch.Generator().manual_seed(seed)
    for _ in range(count):
        deviation = 0.02 + 0.1 * torch.rand(1, 20, 20, generator=draw).expand(3, -1, -1)
        centre = torch.full((3, 20, 20), 0.5)
        error = deviation * torch.randn(3, 20, 20, generator=draw)
        samples = centre + narrow * deviation * torch.randn(6, 3, 20, 20, generator=draw)
        yield Known(centre, samples, centre + error, "denoise", 1.0, None)


def test_calibrated_intervals_cover_new_images_however_wrong_the_samples_are():
    """20 new images of 400 pixels: the standard error is below 0.003, and the correction for 20 images adds 0.045."""
    for narrow in (0.2, 1.0, 3.0):
        calibration = table(cell_of(list(cases(20, narrow)), 0.1))
        for level in (0.5, 0.9):
            inside, kept = [], 0
            for known in cases(20, narrow, seed=1):
                told = Uncertainty(known.centre, known.samples, "denoise", 1.0, 0.1, None, calibration, "packaged")
                low, high = told.interval(level)
                inside.append(float(((known.truth >= low) & (known.truth <= high)).double().mean()))
                low, high = told.interval(level, "image")
                kept += float(((known.truth >= low) & (known.truth <= high)).double().mean()) >= level
            assert level - 0.015 < sum(inside) / 20 < level + 0.06
            assert kept >= 14  # 0.9 each: less with probability below 2e-4


def test_known_and_missing_pixels_have_their_own_q():
    known = torch.zeros(20, 20, dtype=torch.bool)
    known[:, :10] = True
    made = []
    for case in cases(4):
        error = torch.where(known, 0.001 * torch.randn(3, 20, 20, generator=G), case.truth - case.centre)
        made.append(Known(case.centre, case.samples, case.centre + error, "inpaint-hole", 9.0, known))
    found = cell_of(made, 0.1)
    assert set(found.average) == {"known flat", "missing flat"}
    assert found.average["known flat"][2] < 0.2 * found.average["missing flat"][2]
    told = Uncertainty(made[0].centre, made[0].samples, "inpaint-hole", 9.0, 0.1, known, table(found), "packaged")
    low, high = told.interval()
    assert (high - low)[:, known].mean() < 0.2 * (high - low)[:, ~known].mean()


def test_q_is_interpolated_in_logarithms_and_wider_outside_of_what_was_measured():
    calibration = table(
        cell("superres", 2.0, 0.01, (1.0, 1.0, 1.0, 1.0)),
        cell("superres", 2.0, 0.1, (4.0, 4.0, 4.0, 4.0)),
        cell("superres", 4.0, 0.01, (9.0, 9.0, 9.0, 9.0)),
        cell("superres", 4.0, 0.1, (9.0, 9.0, 9.0, 9.0)),
    )
    middle = calibration.factor("superres", 2.0, 0.1**1.5, 0.9, "average")
    assert (middle.q, middle.outside) == (pytest.approx(2.0), "")
    assert calibration.factor("superres", 8**0.5, 0.01, 0.9, "average").q == pytest.approx(3.0)
    assert calibration.factor("superres", 4.0, 0.01, 0.9, "image").q == pytest.approx(18.0)
    beyond = calibration.factor("superres", 8.0, 0.01, 0.9, "average")
    assert beyond.q == pytest.approx(WIDER * 9.0)
    assert "strength 8 is outside the calibrated range 2 to 4" in beyond.outside
    assert "noise 0.3 is outside" in calibration.factor("superres", 2.0, 0.3, 0.9, "average").outside
    quiet = calibration.factor("superres", 2.0, 0.001, 0.9, "average")
    assert (quiet.q, quiet.outside) == (pytest.approx(1.0), "")
    partly = table(cell("superres", 2.0, 0.01), cell("superres", 4.0, 0.01), cell("superres", 4.0, 0.1))
    assert partly.factor("superres", 4.0, 0.1, 0.9, "average").outside == ""
    assert "noise 0.1 is outside" in partly.factor("superres", 3.0, 0.1, 0.9, "average").outside
    other = calibration.factor("jpeg", 2.0, 0.01, 0.9, "average")
    assert other.q == pytest.approx(WIDER * 9.0)
    assert other.outside == "jpeg was not calibrated"
    near = calibration.factor("superres-area", 2.0, 0.01, 0.9, "average")
    assert (near.q, near.outside) == (pytest.approx(WIDER * 1.0), "superres-area was not calibrated")
    with pytest.raises(InputError, match=r"from 0\.5 to 0\.95, got 0\.99"):
        calibration.factor("superres", 2.0, 0.01, 0.99, "average")
    with pytest.raises(InputError, match="average, image, got 'none'"):
        calibration.factor("superres", 2.0, 0.01, 0.9, "none")


def test_few_images_widen_the_average_promise_as_conformal_risk_control_says():
    """Of 16 images and a level of 0.8 the miss is (0.2 * 17 - 1) / 16 = 0.15, half way from q at 0.8 to q at 0.9; at
    0.9 no image is thought to miss more than a half, so that it is (0.1 * 17 - 0.5) / 16 = 0.075."""
    few = replace(cell(), images=16)
    assert few.at(0.8, "average", "all") == pytest.approx(1.5)
    assert few.at(0.9, "average", "all") == pytest.approx(2.5)
    assert few.at(0.95, "average", "all") == 3.0
    assert few.at(0.9, "image", "all") == 4.0
    assert few.at(0.8, "functional", "all") == pytest.approx(1.5)


def test_the_cells_of_a_kind_share_the_factor_for_whole_images():
    """Factors of 2 and 8 are one of 4; another kind keeps its own, and no image is narrower than the average."""
    quiet, loud = cell(noise=0.01), cell(noise=0.1)
    loud = replace(loud, image={"all": [8 * x for x in loud.average["all"]]})
    other = replace(cell("jpeg"), images=16, image=cell("jpeg").average)
    calibration = table(quiet, loud, other)
    for noise in (0.01, 0.03, 0.1):
        assert calibration.factor("denoise", 1.0, noise, 0.9, "image", "all").q == pytest.approx(4 * 2.0)
        assert calibration.factor("denoise", 1.0, noise, 0.9, "average", "all").q == pytest.approx(2.0)
    narrow = [calibration.factor("jpeg", 1.0, 0.1, 0.9, promise, "all").q for promise in ("average", "image")]
    assert narrow == pytest.approx([2.5, 2.5])


def test_factors_shared_by_a_kind_are_compared_on_the_other_half_of_the_images():
    """q of the levels 0.5, 0.8, 0.9 and 0.95 is 0.5, 1, 2 and 3: an image with 0.85 inside at q = 2 needs 4 / 3 times
    as much. Factors of 1 and 4 / 3 have the geometric mean 1.15: enough for two images that need 1.11."""
    from benchmarks.uncertainty.sharing import needs, sharing

    calm = replace(cell(), measured={"coverages": [0.9, 0.9, 0.88, 0.88]})
    told = replace(cell(noise=0.2), measured={"coverages": [0.95, 0.85, 0.95, 0.5]})
    assert needs(calm) == pytest.approx([1.0, 1.0, 2 / 1.8, 2 / 1.8])
    assert needs(told) == pytest.approx([2 / 3, 4 / 3, 2 / 3, 4.0])
    rows = [line.strip("| ").split(" | ") for line in sharing(table(calm, told)).splitlines()[2:5]]
    assert [row[1:] for row in rows] == [
        ["of each cell", "25.0%", "100%", "1.15"],
        ["half way", "25.0%", "100%", "1.15"],
        ["of the kind", "75.0%", "50%", "1.15"],
    ]


def test_levels_between_those_of_the_table_are_between_their_q():
    assert table(cell()).factor("denoise", 1.0, 0.1, 0.85, "average").q == pytest.approx(1.5)


def test_a_calibration_comes_back_from_its_file_and_other_files_are_refused(tmp_path):
    path = tmp_path / "c.json"
    made = table(cell(known=(1.0, 2.0, 3.0, 4.0), missing=(2.0, 3.0, 4.0, 5.0)))
    made.write(path)
    link = path.with_name("link.json")
    link.symlink_to(path)
    made.write(link)
    assert link.is_symlink()
    again = Calibration.read(path)
    assert again.factor("denoise", 1.0, 0.1, 0.9, "image", "missing") == made.factor(
        "denoise", 1.0, 0.1, 0.9, "image", "missing"
    )
    content = json.loads(path.read_text())
    for text in ("{", "[1]", "{}", json.dumps({**content, "cells": [{"kind": 1}]}), json.dumps({**content, "more": 1})):
        path.write_text(text)
        with pytest.raises(InputError, match=r"is not a calibration file|JSON"):
            Calibration.read(path)
    path.write_bytes(b"\xff\xd8\xff photograph")
    with pytest.raises(InputError, match="is not a valid calibration file: it is not UTF-8"):
        Calibration.read(path)
    path.write_text(json.dumps({**content, "levels": [0.5]}))
    with pytest.raises(InputError, match="of another version"):
        Calibration.read(path)
    with pytest.raises(InputError, match="there is no calibration file"):
        Calibration.read(tmp_path / "none.json")


def test_fewer_samples_than_were_calibrated_make_wider_intervals():
    centre, samples = torch.full((1, 16, 16), 0.5), 0.5 + 0.01 * torch.randn(12, 1, 16, 16, generator=G)
    q = {
        n: Uncertainty(centre, samples[:n], "denoise", 1.0, 0.1, None, table(cell()), "").factor(0.9, "average").q
        for n in (2, 6, 12)
    }
    assert q[6] == q[12] == pytest.approx(2.0)
    assert q[2] == pytest.approx(2.0 * student(0.9, 2) / student(0.9, 6))


def test_without_a_calibration_intervals_are_wide_and_promise_nothing():
    centre, samples = torch.full((1, 16, 16), 0.5), 0.5 + 0.01 * torch.randn(6, 1, 16, 16, generator=G)
    told = Uncertainty(centre, samples, "denoise", 1.0, 0.1, None, None, "")
    low, high = told.interval(0.9)
    assert float((high - low).mean()) == pytest.approx(2 * 2 * student(0.9, 6) * (0.01 + FLOOR), rel=0.1)
    assert told.record()["promise"].startswith("none")
    assert told.record()["calibration"] == "none"


def test_a_function_of_the_image_has_an_interval_of_its_own():
    centre = torch.full((1, 16, 16), 0.5)
    samples = 0.5 + torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0, 0.0]).view(6, 1, 1, 1) * 0.01 * torch.ones(1, 16, 16)
    told = Uncertainty(centre, samples, "denoise", 1.0, 0.1, None, table(cell()), "packaged")
    low, high = told.interval_of(lambda x: x[0, :4, :4].mean())
    half = 2.0 * float(samples[:, 0, 0, 0].double().std())
    assert (low, high) == (pytest.approx(0.5 - half), pytest.approx(0.5 + half))
    total = told.interval_of(lambda x: x.sum())
    assert total[1] - total[0] == pytest.approx(256 * 2 * half, rel=1e-4)
    with pytest.raises(InputError, match="must return one number"):
        told.interval_of(lambda x: x[0, 0])


# Degradations


def test_the_severity_of_masks_and_kernels_is_what_was_drawn():
    for share in (0.2, 0.5, 0.8, 0.95):
        mask = torch.rand(64, 64, generator=G) < share
        assert Inpaint(mask).severity == ("inpaint-random", float(mask.float().mean()))
    for side in (6, 8, 16, 32):
        mask = torch.zeros(64, 64, dtype=torch.bool)
        mask[8 : 8 + side, 20 : 20 + side] = True
        kind, found = Inpaint(mask).severity
        assert kind == "inpaint-hole"
        assert found == pytest.approx(side, rel=0.06)
    for std in (1.0, 2.0, 4.0):
        assert Deblur.gaussian(std).severity == ("deblur-gaussian", pytest.approx(std, rel=0.01))
    line = torch.zeros(9, 9)
    line[4] = 1 / 9
    assert Deblur(line).severity == ("deblur-motion", pytest.approx(((81 - 1) / 12 / 2) ** 0.5, rel=1e-5))


# Sampling


def test_a_smooth_start_is_the_noised_smooth_estimate():
    a = operators.GaussianBlur((1, 12, 12), 1.2, "symmetric")
    y = torch.rand(1, *a.out_shape, generator=G, dtype=torch.float64)
    prior = priors.GaussianPrior(torch.zeros(1, 12, 12, dtype=torch.float64), 0.04)
    problem = iv.Problem(prior, costs.GaussianLikelihood(a, y, 0.05))
    draw = torch.randn(1, 1, 12, 12, generator=G, dtype=torch.float64)
    solver = MMPS(start="smooth", noise_ratios=(1.0, 0.01), n_steps=5)
    step = solver.path(problem)[0]
    state = solver.init(problem, 1, iv.testing.ReplayRng([draw]))
    torch.testing.assert_close(state.x, step.alpha_t * problem.smooth_estimate + step.sigma_t * draw)


@pytest.mark.parametrize("schedule", [iv.DDPMSchedule(), iv.FlowSchedule(), iv.VESchedule()])
def test_noise_ratios_mean_the_same_on_every_schedule(schedule):
    prior = priors.GaussianPrior(torch.zeros(1, 4, 4, dtype=torch.float64), 0.04, schedule)
    problem = iv.Problem(prior, costs.GaussianLikelihood(operators.Denoising((1, 4, 4)), torch.zeros(1, 1, 4, 4), 0.05))
    ratios = [s.sigma_t / s.alpha_t for s in MMPS(n_steps=4, noise_ratios=(1.0, 0.008)).path(problem)]
    assert ratios == pytest.approx([1.0, 0.2, 0.04, 0.008], rel=1e-6)


def test_second_order_steps_stay_bounded_where_a_grid_grows_fast():
    """With h / h' of 4 the extrapolation is that of h / h' = 2; smaller ratios are DPM-Solver++(2M) itself."""

    def step(*ratios):
        (a, b) = ((1 / math.hypot(1, r), r / math.hypot(1, r)) for r in ratios)
        return Step(1.0, 0.5, *a, *b)

    x, x0, before = (torch.rand(1, 1, 2, 2, generator=G, dtype=torch.float64) for _ in range(3))
    fast, slow, same = step(1.0, math.exp(-4.0)), step(1.0, math.exp(-0.5)), step(math.e, 1.0)
    for now, weight in ((fast, 1.0), (slow, 0.25)):
        h = 4.0 if now is fast else 0.5
        want = (now.sigma_s / now.sigma_t) * x + now.alpha_s * (1 - math.exp(-h)) * (x0 + weight * (x0 - before))
        torch.testing.assert_close(multistep(now, x, x0, (same, before)), want)


def test_noise_ratios_that_make_no_path_are_refused():
    for ratios in ((1.0,), (1.0, 0.5, 0.1)):
        with pytest.raises(InputError, match="noise_ratios must be two"):
            MMPS(noise_ratios=ratios)
    with pytest.raises(InputError, match="that replace times"):
        MMPS(noise_ratios=(1.0, 0.1), times=(1.0, 0.0))


# Restorations


def photographs(folder, count=3, side=16):
    """Images of a prior of small patches, and the prior as if it were one of natural images."""
    prior = textures(side=side)
    prior.traits = traits_named("natural")
    images = ((prior.sample(count, iv.Rng(0)) + 1) / 2).float().clamp(0, 1)
    for i, image in enumerate(images):
        write_image(folder / f"{i}.png", Image(image))
    return prior, images


def test_samples_give_a_point_estimate_with_intervals_and_the_record_says_what_they_promise(tmp_path):
    prior, images = photographs(tmp_path)
    done = restore(images[0], "denoise", noise=0.1, simulate=True, prior=prior, samples=4)
    assert done.samples is not None
    point = restore(images[0], "denoise", noise=0.1, simulate=True, prior=prior)
    torch.testing.assert_close(done.image.pixels, point.image.pixels, atol=1e-4, rtol=0)
    assert "intervals from 4 samples" in done.record["estimate"]
    low, high = done.interval(0.9)
    assert bool((low <= done.image.pixels).all() and (done.image.pixels <= high).all())
    assert low.min() >= 0
    assert high.max() <= 1
    assert done.record["uncertainty"]["calibration"] == "none"
    names = {path.name for path in done.save(tmp_path / "out.png")}
    assert {"out-interval.png", "sample1.png", "sample4.png"} <= names
    assert (tmp_path / "out-samples" / "sample2.png").is_file()
    with pytest.raises(InputError, match="needs posterior samples"):
        point.interval()


def test_calibrate_measures_and_restore_takes_what_it_wrote(tmp_path, capsys, monkeypatch):
    photos = tmp_path / "photos"
    photos.mkdir()
    prior, images = photographs(photos, side=16)
    monkeypatch.setattr("invsolve.priors.load", lambda name, **options: prior)
    out = tmp_path / "c.json"
    words = ["calibrate", "--images", str(photos), "--crops", "3", "--size", "16", "--samples", "4", "--noise", "0.1"]
    words += ["--prior", "digits", "--solver", "mmps", "--set", "n_steps=4", "-o", str(out)]
    assert main([*words, "--task", "denoise", "--figure", str(tmp_path / "c.png")]) == 0
    assert "denoise, noise 0.1: " in capsys.readouterr().out
    assert (tmp_path / "c.png").stat().st_size > 1000
    (tmp_path / "c.png").write_text("mine")
    assert main([*words, "--task", "denoise", "--figure", str(tmp_path / "c.png")]) == 2
    assert (tmp_path / "c.png").read_text() == "mine"
    assert main([*words, "--task", "denoise", "--figure", str(tmp_path / "c.png"), "--overwrite"]) == 0
    made = Calibration.read(out)
    assert (made.prior, made.solver, made.settings, made.samples) == ("digits", "mmps", {"n_steps": 4}, 4)
    assert main([*words, "--task", "denoise", "superres", "--factor", "2"]) == 0
    assert [c.kind for c in Calibration.read(out).cells] == ["denoise", "superres"]
    done = restore(
        images[0], "denoise", noise=0.1, simulate=True, prior=prior, samples=4, calibration=out, solver="mmps",
        settings={"n_steps": 4},
    )  # fmt: skip
    told = done.record["uncertainty"]
    assert told["calibration"] == str(out)
    assert told["q"]["average"]["edges"] == made.factor("denoise", 1.0, 0.1, 0.9, "average", "edges").q
    assert main([*words[:-4], "-o", str(out), "--task", "denoise"]) == 2
    assert "is a calibration of something else" in capsys.readouterr().err


def test_a_calibration_of_other_weights_is_told(tmp_path, caplog):
    made = packaged_calibration("natural")
    assert made is not None
    image = Image(torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(0)))
    for weights, told in ((made.weights, False), ("0" * 16, True)):
        path = tmp_path / f"{told}.json"
        replace(made, weights=weights).write(path)
        caplog.clear()
        restore(image, "denoise", noise=0.1, samples=2, calibration=path, settings={"n_steps": 1})
        assert ("other weights" in caplog.text) == told


def test_a_calibration_for_suites_is_of_independent_samples(tmp_path, monkeypatch):
    prior, _ = photographs(tmp_path, side=16)
    monkeypatch.setattr("invsolve.priors.load", lambda name, **options: prior)
    words = ["calibrate", "--images", str(tmp_path), "--crops", "3", "--size", "16", "--samples", "4", "--noise", "0.1"]
    words += ["--prior", "digits", "--solver", "mmps", "--set", "n_steps=4", "--task", "denoise"]
    out = tmp_path / "independent.json"
    drawn, antithetic = [], []
    real = calibrate_module.solve

    def watched(*args, **options):
        antithetic.append(options["antithetic"])
        drawn.append(real(*args, **options))
        return drawn[-1]

    monkeypatch.setattr(calibrate_module, "solve", watched)
    assert main([*words, "-o", str(tmp_path / "pairs.json")]) == 0
    assert main([*words, "--independent", "-o", str(out)]) == 0
    assert antithetic == [True] * 3 + [False] * 3
    assert not torch.equal(drawn[0].samples[0, 1], drawn[3].samples[0, 1])  # the second of a pair
    pairs, independent = (Calibration.read(tmp_path / f"{name}.json") for name in ("pairs", "independent"))
    assert (pairs.antithetic, independent.antithetic) == (True, False)
    assert pairs.matches("digits", "mmps", {"n_steps": 4})
    assert not independent.matches("digits", "mmps", {"n_steps": 4})
    check_calibrations([independent])
    assert main([*words, "-o", str(out)]) == 2  # a table has samples of one kind
    unknown = [TaskSpec("blind", BlindDeblur.name, 0.01)]
    with pytest.raises(CapabilityError, match="antithetic samples of `restore`"):
        calibrate(Setup(prior, "digits", "mmps", antithetic=False), unknown, torch.rand(1, 3, 16, 16), out, print)


def test_what_cannot_be_calibrated_is_said_before_work(tmp_path, capsys):
    prior, images = photographs(tmp_path)
    base = ["calibrate", "--images", str(tmp_path), "-o", str(tmp_path / "c.json")]
    for more, words in (
        (["--samples", "1"], "--samples must be at least 2"),
        (["--noise", "2"], "at most 1, got 2"),
        (["--independent"], "--independent is for the rows of a suite, which name their solver"),
        (["--set", "n_steps=3"], "--set changes the settings of a named solver"),
        (["--task", "denoise", "--factor", "2"], "none of the tasks to calibrate has the option --factor"),
        (["--crops", "9"], "holds 3 images, 9 are needed"),
        (["--figure", "x.txt"], "does not end in .png"),
    ):
        assert main([*base, *more]) == 2
        assert words in capsys.readouterr().err
    with pytest.raises(InputError, match="there is no calibration file"):
        restore(images[0], "denoise", noise=0.1, prior=prior, samples=4, calibration=tmp_path / "none.json")
    with pytest.raises(InputError, match="a calibration needs posterior samples"):
        restore(images[0], "denoise", noise=0.1, prior=prior, calibration=tmp_path / "none.json")


def test_every_standard_degradation_can_be_drawn():
    prior = textures(side=8)
    prior.traits = traits_named("natural")
    setup = Setup(prior, "toy", samples=4)
    for kind, noises, options in STANDARD:
        for each in options:
            sampler, point = setup.solvers(TaskSpec("x", kind, noises[0], dict(each)))
            assert sampler.name == "mmps"
            assert isinstance(point, solvers.PnPHQS)


def test_calibrating_goes_on_where_it_stopped(tmp_path):
    prior = textures(side=8)
    images = ((prior.sample(2, iv.Rng(0)) + 1) / 2).float().clamp(0, 1)
    setup = Setup(prior, "toy", "mmps", {"n_steps": 2}, samples=4)
    first, both = TaskSpec("a", "denoise", 0.1), TaskSpec("b", "denoise", 0.2)
    told = []
    calibrate(setup, [first], images, tmp_path / "c.json", told.append)
    made = calibrate(setup, [first, both], images, tmp_path / "c.json", told.append)
    assert [c.noise for c in told] == [c.noise for c in made.cells] == [0.1, 0.2]


def test_two_calibrations_of_one_file_lose_no_entry(tmp_path, monkeypatch):
    prior = textures(side=8)
    images = ((prior.sample(2, iv.Rng(0)) + 1) / 2).float().clamp(0, 1)
    setup = Setup(prior, "toy", "mmps", {"n_steps": 2}, samples=4)
    one, two = TaskSpec("a", "denoise", 0.1), TaskSpec("b", "denoise", 0.2)
    measured = calibrate_module.drawn_cases

    def meanwhile(*args):
        with monkeypatch.context() as patch:
            patch.setattr(calibrate_module, "drawn_cases", measured)
            calibrate(setup, [two], images, tmp_path / "c.json", lambda cell: None)
        return measured(*args)

    monkeypatch.setattr(calibrate_module, "drawn_cases", meanwhile)
    made = calibrate(setup, [one, two], images, tmp_path / "c.json", lambda cell: None)
    assert made == Calibration.read(tmp_path / "c.json")
    assert [cell.noise for cell in made.cells] == [0.2, 0.1]


def test_the_packaged_calibration_is_that_of_the_packaged_weights():
    """Whoever replaces the weights or the settings measures again: invsolve calibrate --images PHOTOS --crops 16."""
    made = packaged_calibration("natural")
    assert made is not None
    assert made.weights == weights_of(priors.load("natural"))
    assert (made.solver, made.settings, made.samples, made.centre) == ("", {}, 6, "point")
    for found in made.cells:
        for promise in (found.average, found.image):
            assert all(0 < a <= b for q in promise.values() for a, b in pairwise(q))
        for group, q in found.image.items():
            assert all(own >= pooled for own, pooled in zip(q, found.average[group], strict=True))


def test_the_packaged_calibration_has_every_standard_degradation_once():
    made = packaged_calibration("natural")
    assert made is not None
    wanted = {
        (" ".join([kind, *(f"{name}={value}" for name, value in each.items())]), noise)
        for kind, noises, options in STANDARD
        for each in options
        for noise in noises
    }
    assert {(c.measured["task"], c.noise) for c in made.cells} == wanted
    assert len(made.cells) == len(wanted)
    assert {c.images for c in made.cells} == {made.photographs["count"]}


def test_the_packaged_calibration_of_unknown_blurs_is_one_of_its_own():
    """Measured again with: invsolve calibrate --images PHOTOS --task blind-deblur --crops 32 --size 192."""
    made = packaged_calibration("natural", "blind-deblur")
    assert made is not None
    assert packaged_calibration("natural", "denoise") == packaged_calibration("natural")
    assert made.weights == weights_of(priors.load("natural"))
    assert (made.solver, made.settings, made.samples, made.centre) == ("", {}, 6, "point")
    assert [(cell.kind, cell.noise) for cell in made.cells] == [("blind-deblur", level) for level in BLIND_NOISE]
    assert made.photographs["count"] - 4 <= min(cell.images for cell in made.cells)
    kind, severity = BlindDeblur(torch.ones(3, 3) / 9).severity
    assert made.factor(kind, severity, 0.01, 0.9, "average", "edges").outside == ""
    assert made.factor(f"{kind}-jpeg", severity, 0.01, 0.9, "average", "edges").outside
    samples = torch.rand(6, 3, 16, 16, generator=G)
    told = Uncertainty(samples.mean(0), samples, kind, severity, 0.01, None, made, "packaged")
    assert "blurred photographs like those of the calibration" in told.promise
    known = packaged_calibration("natural")
    assert known is not None
    assert kind not in {cell.kind for cell in known.cells}


@pytest.mark.parametrize("kind", ["denoise", "superres", "inpaint-random", "inpaint-hole", "deblur-gaussian", "jpeg"])
def test_the_packaged_calibration_covers_what_lies_between_its_entries_and_nothing_beyond(kind):
    made = packaged_calibration("natural")
    assert made is not None
    cells = [c for c in made.cells if c.kind == kind]
    noises, strengths = sorted({c.noise for c in cells}), sorted({c.severity for c in cells})
    middle = math.sqrt(noises[0] * noises[-1]), math.sqrt(strengths[0] * strengths[-1])
    for promise in ("average", "image"):
        q = [made.factor(kind, c.severity, c.noise, 0.9, promise, "texture").q for c in cells]
        between = made.factor(kind, middle[1], middle[0], 0.9, promise, "texture")
        assert between.outside == ""
        assert 0.999 * min(q) <= between.q <= 1.001 * max(q)
    beyond = made.factor(kind, 2 * strengths[-1], middle[0], 0.9, "average", "texture")
    assert "strength" in beyond.outside
    if kind != "jpeg":  # the noise of its likelihood is always the same
        assert "noise" in made.factor(kind, middle[1], 2 * noises[-1], 0.9, "average", "texture").outside
