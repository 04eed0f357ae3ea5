"""METRICS' goals for verdicts, shown by simulation: a gate that neither cries wolf nor sleeps.

A thousand comparisons of six ABBA pairs of runs of 200 requests. Each run has a level of its own (2 % noise),
the server drifts through all of them, and requests spread around that.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from msgspec import structs
from scipy.stats import binom, mannwhitneyu

from reports.estimate import Estimate, counted, holm, paired, welch
from reports.gates import MAX_SHARE, Gate, gates
from reports.metric_verdicts import judge

Floats = npt.NDArray[np.float64]
Trial = tuple[Floats, Floats]  # of each side: (pairs, requests)
Decide = Callable[[list[Trial]], list[str]]

TRIALS, PAIRS, REQUESTS = 1000, 6, 200
RUN_NOISE = 0.02
TIMES: list[Gate] = [gate for gate in gates(None, {}, {}) if gate.scale == "ratio"]
SPREADS = {"ttft": 0.30, "tpot": 0.10, "e2e": 0.20}  # of the requests of a run, as logarithms
DRIFT = 0.10  # from the first of the twelve runs to the last: a server that warms up, or tires


def simulated(worse: dict[str, float], seed: int, run_noise: float = RUN_NOISE) -> list[list[Trial]]:
    """By metric, a thousand trials; `worse` by metric, 0.15: NEW takes 15 % longer."""
    rng = np.random.default_rng(seed)
    # A B B A A B ...: the place in time of each pair's base and new run.
    place = np.arange(2 * PAIRS).reshape(PAIRS, 2)
    place[1::2] = place[1::2, ::-1]
    out = []
    for gate in TIMES:
        level = rng.normal(0, run_noise, (TRIALS, PAIRS, 2)) + DRIFT * place / (2 * PAIRS - 1)
        level[:, :, 1] += math.log1p(worse.get(gate.metric, 0.0))
        noise = rng.standard_normal((TRIALS, PAIRS, 2, REQUESTS), dtype=np.float32)
        times = 100 * np.exp(level[..., None] + SPREADS[gate.metric] * noise)
        out.append([(trial[:, 0], trial[:, 1]) for trial in times])
    return out


def ours(trial: list[Trial]) -> list[str]:
    """What `compare` does with a run's requests: one median a run, paired t, Holm, three steps."""
    found: list[Estimate] = [
        paired(np.log(np.median(base, axis=1)).tolist(), np.log(np.median(new, axis=1)).tolist())
        for base, new in trial
    ]
    # No request fails here; `errors` takes its part in Holm all the same.
    chances = holm({str(n): p for n, p in enumerate([*(one.p for one in found), 1.0])})
    return [
        judge(one, gate.threshold, chances[str(n)])
        for n, (one, gate) in enumerate(zip(found, TIMES, strict=True))
    ]


def mann_whitney(trial: list[Trial]) -> list[str]:
    """What is usual: all requests of a side in one heap, and a test that takes them for independent."""
    out = []
    for base, new in trial:
        p = mannwhitneyu(new.ravel(), base.ravel(), alternative="greater", method="asymptotic").pvalue
        out.append("FAIL" if p <= 0.025 else "PASS")
    return out


def counts(
    decide: Decide, worse: dict[str, float], seed: int, trials: int = TRIALS, run_noise: float = RUN_NOISE
) -> dict[str, list[int]]:
    """How often each metric got each verdict."""
    metrics = simulated(worse, seed, run_noise)
    found = [decide([metric[n] for metric in metrics]) for n in range(trials)]
    return {
        verdict: [sum(one[place] == verdict for one in found) for place in range(len(TIMES))]
        for verdict in ("PASS", "FAIL", "INCONCLUSIVE")
    }


def check_no_wolf(decide: Decide, trials: int = TRIALS) -> None:
    most = binom.ppf(0.999, trials, 0.025)
    found = counts(decide, {}, 1, trials)
    assert all(n <= most for n in found["FAIL"])
    assert all(n >= 0.9 * trials for n in found["PASS"])  # nor does it ask for more runs without need


def test_nothing_changed_and_no_metric_fails_in_more_than_2_5_of_100() -> None:
    check_no_wolf(ours)


def welched(trial: list[Trial]) -> list[str]:
    """The same runs, not known to be pairs."""
    found = [welch(*(np.log(np.median(side, axis=1)).tolist() for side in both)) for both in trial]
    chances = holm({str(n): one.p for n, one in enumerate(found)})
    return [
        judge(one, gate.threshold, chances[str(n)])
        for n, (one, gate) in enumerate(zip(found, TIMES, strict=True))
    ]


@pytest.mark.parametrize("decide", [ours, welched])
def test_a_noisy_machine_makes_no_wolf(decide: Decide) -> None:
    """So noisy that half of the limit is often reached: here only the statistics hold the alarm back."""
    found = counts(decide, {}, 6, run_noise=0.10)
    assert all(n <= binom.ppf(0.999, TRIALS, 0.025) for n in found["FAIL"])
    assert sum(found["FAIL"]) > 0
    assert all(n >= TRIALS / 4 for n in found["INCONCLUSIVE"])


def errors_fail(share: float, spread: float, rise: float, seed: int) -> int:
    """How often `errors` FAILs: counts of failures a run, the runs' own shares spread around `share`."""
    rng = np.random.default_rng(seed)
    own = rng.gamma(1 / spread**2, share * spread**2, (TRIALS, PAIRS, 2))
    own[:, :, 1] += rise
    hits = rng.binomial(REQUESTS, np.minimum(own, 1.0))
    fails = 0
    for trial in hits.tolist():
        base, new = zip(*trial, strict=True)
        shares = [[n / REQUESTS for n in side] for side in (base, new)]
        told = counted((sum(base), PAIRS * REQUESTS), (sum(new), PAIRS * REQUESTS))
        one = structs.replace(paired(*shares), counted=told)
        fails += judge(one, MAX_SHARE, one.p) == "FAIL"
    return fails


def test_errors_that_come_in_spells_make_no_wolf() -> None:
    # A run's own share is anything between 0 and twice the usual: counts alone would take that for a change.
    assert errors_fail(0.03, 0.8, 0.0, 7) <= binom.ppf(0.999, TRIALS, 0.025)
    assert errors_fail(0.01, 0.1, 0.05, 8) >= binom.ppf(0.001, TRIALS, 0.95)


def test_the_same_check_catches_a_test_on_requests() -> None:
    with pytest.raises(AssertionError):
        check_no_wolf(mann_whitney, 150)


def test_15_of_100_more_of_one_metric_fails_in_95_of_100() -> None:
    """Holm leaves it least where it is alone; of the metric whose requests spread most."""
    found = counts(ours, {"ttft": 0.15}, 2)
    assert found["FAIL"][0] >= binom.ppf(0.001, TRIALS, 0.95)
    assert found["PASS"][0] <= binom.ppf(0.999, TRIALS, 0.001)


def test_15_of_100_more_in_all_metrics_fails() -> None:
    found = counts(ours, {gate.metric: 0.15 for gate in TIMES}, 3)
    assert all(n >= binom.ppf(0.001, TRIALS, 0.95) for n in found["FAIL"])


def test_10_of_100_more_seldom_passes() -> None:
    found = counts(ours, {gate.metric: 0.10 for gate in TIMES}, 4)
    assert all(n <= binom.ppf(0.999, TRIALS, 0.05) for n in found["PASS"])
