"""Metrics of restorations: each with its implementation, its version and, where needed, its weights.

    metric = METRICS["lpips-vgg"]
    score = metric.load()                      # WeightsMissing if its file cannot be found; nothing is downloaded
    score(Case(image, truth))                # a number
    metric.implementation()                    # "torchmetrics 1.9.0 LPIPS (vgg16)"

Implementations with the same name disagree (SSIM is 0.67 or 0.78 for the same images in two well-maintained libraries).
Compare only values of the same implementation.
"""

from invsolve.metrics.base import Case, Metric, WeightsMissing
from invsolve.metrics.registry import METRICS, SET_METRICS, SetMetric, image_metric, metric_named

__all__ = ["METRICS", "SET_METRICS", "Case", "Metric", "SetMetric", "WeightsMissing", "image_metric", "metric_named"]
