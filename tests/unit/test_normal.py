"""Quantiles of the normal distribution."""

from __future__ import annotations

from statistics import NormalDist

import pytest

from amm_exporter.analysis.normal import normal_quantile


@pytest.mark.parametrize("probability", [1e-300, 1e-9, 0.005, 0.3, 0.5, 0.7, 0.95, 0.975, 0.99, 0.995, 0.999999])
def test_it_agrees_with_the_standard_library(probability: float) -> None:
    assert normal_quantile(probability) == pytest.approx(NormalDist().inv_cdf(probability), rel=1e-10, abs=1e-12)


@pytest.mark.parametrize("probability", [0.0, 1.0, -0.1, 1.1, float("nan")])
def test_what_is_no_probability_is_refused(probability: float) -> None:
    with pytest.raises(ValueError, match="expected more than 0 and less than 1"):
        normal_quantile(probability)
