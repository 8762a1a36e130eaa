from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from latprof import config
from latprof.config import TokenCount
from latprof.errors import ConfigError
from latprof.workload.draws import check_law, indices, token_count
from latprof.workload.load import load_workload
from latprof.workload.sessions import joined

N = 4000


def drawn(law: TokenCount, seed: int = 1) -> list[int]:
    return [token_count(law, seed, session, 0, "prompt_tokens") for session in range(N)]


def test_lognormal_is_lognormal() -> None:
    # A mean of a million makes rounding invisible to the test.
    sample = drawn(TokenCount(dist="lognormal", mean=1e6, cv=0.5, max=10**9))
    sigma = np.sqrt(np.log1p(0.25))
    law = stats.lognorm(s=sigma, scale=1e6 * np.exp(-(sigma**2) / 2))
    assert stats.kstest(sample, law.cdf).pvalue > 0.01
    assert np.mean(sample) == pytest.approx(1e6, rel=0.03)
    assert np.std(sample) / np.mean(sample) == pytest.approx(0.5, rel=0.06)


def test_uniform_is_uniform_with_the_asked_mean_and_cv() -> None:
    sample = drawn(TokenCount(dist="uniform", mean=1e5, cv=0.25))
    half = np.sqrt(3) * 0.25 * 1e5
    assert stats.kstest(sample, stats.uniform(1e5 - half, 2 * half).cdf).pvalue > 0.01


def test_constant_is_constant() -> None:
    assert set(drawn(TokenCount(mean=300))) == {300}


def test_draws_stay_inside_the_bounds() -> None:
    sample = drawn(TokenCount(dist="lognormal", mean=100, cv=2, min=50, max=200))
    assert min(sample) == 50
    assert max(sample) == 200


def test_prompt_and_output_draws_are_independent() -> None:
    law = TokenCount(dist="lognormal", mean=1e4, cv=0.5)
    pairs = [[token_count(law, 1, session, 0, purpose) for purpose in ("prompt_tokens", "output_tokens")] for session in range(N)]
    prompts, outputs = zip(*pairs, strict=True)
    assert abs(np.corrcoef(prompts, outputs)[0, 1]) < 0.05


@pytest.mark.parametrize(
    ("law", "said"),
    [
        (TokenCount(mean=10, min=20, max=5), "min must not be above"),
        (TokenCount(mean=10, min=20), "mean must lie between"),
        (TokenCount(mean=10, dist="uniform", cv=0.6), "cv must be at most 0.577"),
    ],
)
def test_laws_that_cannot_be_meant(law: TokenCount, said: str) -> None:
    with pytest.raises(ConfigError, match=rf"workload\.output_tokens\..*{said.split(' ', 1)[1]}"):
        check_law(law, "workload.output_tokens")


@given(st.integers(1, 200), st.integers(0, 200), st.integers(0, 12))
def test_a_longer_draw_begins_with_the_shorter(count: int, more: int, bits: int) -> None:
    short = indices(count, 1 << bits, 3, 4, 5, "prompt")
    assert short.max() < 1 << bits
    assert indices(count + more, 1 << bits, 3, 4, 5, "prompt")[:count].tolist() == short.tolist()


def test_indices_are_uniform() -> None:
    counts = np.bincount(indices(64_000, 64, 1, 0, 0, "prompt"), minlength=64)
    assert stats.chisquare(counts).pvalue > 0.01


def test_sessions_do_not_depend_on_the_order_they_are_made_in() -> None:
    settings = config.Workload(prompt_tokens=TokenCount(dist="lognormal", mean=200), output_tokens=TokenCount(dist="uniform", mean=20))
    forwards = list(map(load_workload(settings, 1).session, range(50)))
    backwards = list(map(load_workload(settings, 1).session, reversed(range(50))))
    assert forwards == backwards[::-1]
    assert forwards != list(map(load_workload(settings, 2).session, range(50)))
    assert len({session.turns[0].prompt_tokens for session in forwards}) > 20


def test_a_session_is_what_it_says() -> None:
    workload = load_workload(config.Workload(prompt_tokens=TokenCount(dist="lognormal", mean=200)), 1)
    session = workload.session(7)
    assert session.session == 7
    (turn,) = session.turns
    assert len(joined(turn.prompt).split()) == turn.prompt_tokens
    assert turn.output_tokens == 8
    assert workload.trace_offsets_ns is None
