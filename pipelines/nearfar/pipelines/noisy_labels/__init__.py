"""Wrong and long-tailed labels on representations of several domains: one classifier next to what people use."""

from nearfar.pipelines.noisy_labels.baselines import BASELINES, Baseline, CannotRunError, available

__all__ = ["BASELINES", "Baseline", "CannotRunError", "available"]
