"""Every law has the mean and the spread that it was asked for, and the shape of its name."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from latprof.config import ServiceTime, ShareLaw, TokenCount, load_config
from latprof.errors import ConfigError
from latprof.workload.draws import LAWS, chance, check_law, drawn_share, duration_ns, token_count

N = 4000
MEAN = 1e6


def drawn(law: TokenCount) -> list[int]:
    return [token_count(law, 1, session, 0, "prompt_tokens") for session in range(N)]


@pytest.mark.parametrize(
    ("dist", "cv", "oracle"),
    [
        ("normal", 0.2, stats.norm(MEAN, 0.2 * MEAN)),
        ("exponential", 1, stats.expon(scale=MEAN)),
        ("gamma", 0.5, stats.gamma(4, scale=MEAN / 4)),
        ("gamma", 2, stats.gamma(0.25, scale=4 * MEAN)),
        ("pareto", 1.5, stats.lomax(3.6, scale=2.6 * MEAN)),
    ],
)
def test_laws_have_the_shape_of_their_name(dist: str, cv: float, oracle: stats.rv_continuous) -> None:
    law = TokenCount.model_validate({"dist": dist, "mean": MEAN, "cv": cv, "max": 10**12})
    assert stats.kstest(drawn(law), oracle.cdf).pvalue > 0.01
    assert oracle.mean() == pytest.approx(MEAN)
    assert oracle.std() == pytest.approx(cv * MEAN)


def test_geometric_counts_from_one() -> None:
    counts = np.bincount(drawn(TokenCount(dist="geometric", mean=4)), minlength=40)
    assert counts[0] == 0
    expected = N * stats.geom(0.25).pmf(np.arange(1, 15))
    assert stats.chisquare([*counts[1:15], counts[15:].sum()], [*expected, N - expected.sum()]).pvalue > 0.01
    assert set(drawn(TokenCount(dist="geometric", mean=1))) == {1}


def test_empirical_draws_its_values_alike() -> None:
    sample = drawn(TokenCount(dist="empirical", values=(3, 30, 300)))
    assert stats.chisquare([sample.count(value) for value in (3, 30, 300)]).pvalue > 0.01


@pytest.mark.parametrize("dist", ["uniform", "normal", "exponential", "lognormal", "gamma", "pareto"])
def test_shares_follow_their_law_and_stay_shares(dist: str) -> None:
    def sample(mean: float, cv: float, **more: float) -> list[float]:
        law = ShareLaw.model_validate({"dist": dist, "mean": mean, "cv": cv, **more})
        return [drawn_share(law, 1, session, 0, "cached_share") for session in range(N)]

    cv = 1.1 if dist == "pareto" else 0.2
    small = sample(0.04, cv)
    assert np.mean(small) == pytest.approx(0.04, rel=0.1)
    assert np.std(small) == pytest.approx((1 if dist == "exponential" else cv) * 0.04, rel=0.25)
    assert len(set(small)) > N / 2
    wide = sample(0.8, 1.5 if dist == "pareto" else 0.57)
    assert 0 <= min(wide) < max(wide) == 1
    assert set(sample(0.5, cv=1.2 if dist == "pareto" else 0.5, min=0.45, max=0.55)) >= {0.45, 0.55}


def test_empirical_shares_are_drawn_alike() -> None:
    law = ShareLaw(dist="empirical", values=(0, 0.25, 0.9))
    sample = [drawn_share(law, 1, session, 0, "cached_share") for session in range(N)]
    assert stats.chisquare([sample.count(value) for value in law.values]).pvalue > 0.01


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("30%", r"workload\.cached_share: must be a share from 0 to 1, or a law of shares such as .*, got '30%'"),
        (True, r"workload\.cached_share: must be a share from 0 to 1, .*, got True"),
        (1.5, r"workload\.cached_share\.mean: must be less than or equal to 1, got 1\.5"),
        ({"dist": "empirical", "values": [0, 2]}, r"workload\.cached_share\.values\.1: must be less than or equal to 1, got 2"),
        ({"dist": "empirical"}, r"workload\.cached_share: values must list at least one share when dist is empirical"),
        ({"dist": "geometric"}, r"workload\.cached_share\.dist: must be 'constant', .*, got 'geometric'"),
    ],
)
def test_what_is_no_law_of_shares(written: object, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        load_config(None, {"workload": {"cached_share": written}})


def test_durations_are_never_below_nothing() -> None:
    law = ServiceTime.model_validate({"dist": "lognormal", "mean": "3s", "cv": 3})
    sample = [duration_ns(law, 1, session, 0, "tool") for session in range(N)]
    assert min(sample) >= 0
    assert np.mean(sample) == pytest.approx(3e9, rel=0.15)
    assert duration_ns(ServiceTime.model_validate("250ms"), 1, 0, 0, "think") == 250_000_000
    assert duration_ns(ServiceTime.model_validate({"dist": "empirical", "values": ["1s"]}), 1, 0, 0, "think") == 10**9


def test_chances() -> None:
    assert sum(chance(0.3, 1, session, 0, "x") for session in range(N)) == pytest.approx(0.3 * N, rel=0.1)
    assert not any(chance(0, 1, session, 0, "x") for session in range(100))
    assert all(chance(1, 1, session, 0, "x") for session in range(100))


def test_laws_that_cannot_be_meant() -> None:
    with pytest.raises(ConfigError, match=r"w\.turns\.cv must be above 1 for dist pareto .*, got 1"):
        check_law(TokenCount(dist="pareto", cv=1.0), "w.turns")
    check_law(TokenCount(dist="empirical", values=(3,), mean=5, max=4), "w.turns")
    with pytest.raises(ConfigError, match=r"w\.cached_share\.mean must lie between min and max, got 0\.5 outside \[0\.0, 0\.3\]"):
        check_law(ShareLaw(mean=0.5, max=0.3), "w.cached_share")


def test_every_law_of_the_configuration_can_be_drawn() -> None:
    for section, key in ((TokenCount, "dist"), (ServiceTime, "dist"), (ShareLaw, "dist")):
        known = set(section.model_fields[key].annotation.__args__)  # type: ignore[union-attr]
        assert known - {"empirical"} <= set(LAWS)
