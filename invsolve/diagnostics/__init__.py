"""Diagnostics: whether the results of a solver can be trusted."""

from invsolve.diagnostics.calibration import (
    Band,
    Calibration,
    Coordinates,
    PosteriorReference,
    TruthCalibration,
    calibrate,
    calibrate_truth,
    resolution,
)
from invsolve.diagnostics.control import (
    ControlEnergy,
    ControlImages,
    EntropyDeficit,
    collapse_figure,
    collapse_label,
    critical_scale,
    deficit_figure,
    entropy_deficit,
    mode_entropy,
    pairwise_distance,
)
from invsolve.diagnostics.discrepancy import (
    Discrepancy,
    Trajectory,
    discrepancy_bound,
    discrepancy_figure,
    log_ratio_figure,
    noised,
    score_discrepancy,
)
from invsolve.diagnostics.endtoend import GuidanceBudget, guidance_budget
from invsolve.diagnostics.figures import calibration_figure
from invsolve.diagnostics.laws import fisher_bound, fisher_identity, harnack_margin, kl_bound, law_gap
from invsolve.diagnostics.reliability import Reliability, classifier_report, reliability_figure
from invsolve.diagnostics.show import show_images
from invsolve.diagnostics.twosample import c2st, sliced_wasserstein

__all__ = [
    "Band",
    "Calibration",
    "ControlEnergy",
    "ControlImages",
    "Coordinates",
    "Discrepancy",
    "EntropyDeficit",
    "GuidanceBudget",
    "PosteriorReference",
    "Reliability",
    "Trajectory",
    "TruthCalibration",
    "c2st",
    "calibrate",
    "calibrate_truth",
    "calibration_figure",
    "classifier_report",
    "collapse_figure",
    "collapse_label",
    "critical_scale",
    "deficit_figure",
    "discrepancy_bound",
    "discrepancy_figure",
    "entropy_deficit",
    "fisher_bound",
    "fisher_identity",
    "guidance_budget",
    "harnack_margin",
    "kl_bound",
    "law_gap",
    "log_ratio_figure",
    "mode_entropy",
    "noised",
    "pairwise_distance",
    "reliability_figure",
    "resolution",
    "score_discrepancy",
    "show_images",
    "sliced_wasserstein",
]
