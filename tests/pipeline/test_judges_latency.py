"""The judge of a new release beside what serves, on response times like those of real servers."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.judges import Arm, judge_against_live, judge_beside_live, words_on_shared_failures
from pipeline.results import Verdict

SEEDS = range(200)
PAIRS = 300  # what the defaults of gate.against_live give
Times = np.ndarray
Server = Callable[[np.random.Generator, int], Times]


def lognormal(random: np.random.Generator, count: int, median_ms: float = 5.0, spread: float = 0.3) -> Times:
    return median_ms * np.exp(spread * random.standard_normal(count))


def with_outliers(random: np.random.Generator, count: int) -> Times:
    """One answer of a hundred waits for something: 5 to 40 times as long."""
    return lognormal(random, count) * np.where(random.random(count) < 0.01, random.uniform(5, 40, count), 1)


def with_many_outliers(random: np.random.Generator, count: int) -> Times:
    return lognormal(random, count) * np.where(random.random(count) < 0.05, random.uniform(5, 40, count), 1)


def two_kinds(random: np.random.Generator, count: int) -> Times:
    """One request of five is far more work."""
    return np.where(random.random(count) < 0.2, lognormal(random, count, 30.0), lognormal(random, count))


def half_and_half(random: np.random.Generator, count: int) -> Times:
    """The median lies in the gap between two kinds of requests: the hardest case for it."""
    return np.where(random.random(count) < 0.5, lognormal(random, count, 30.0), lognormal(random, count))


def wide(random: np.random.Generator, count: int) -> Times:
    return lognormal(random, count, 5.0, 1.0)


def bursts(random: np.random.Generator, count: int) -> Times:
    """A neighbour takes the machine's time for a while, again and again: times of neighbouring requests go together."""
    busy = np.convolve(random.random(count) < 0.02, np.ones(10), "same") > 0
    return lognormal(random, count) * np.where(busy, 2.0, 1.0)


SERVERS = [lognormal, with_outliers, with_many_outliers, two_kinds, half_and_half, wide, bursts]


def in_the_same_moments(random: np.random.Generator, count: int) -> tuple[Times, Times]:
    """One machine under both sides, taken away for a while, again and again: what they answer then takes 3 to 6 times
    as long."""
    busy = np.convolve(random.random(count) < 0.03, np.ones(12), "same") > 0
    factors = np.where(busy, random.uniform(3, 6, count), 1.0)
    return lognormal(random, count) * factors, lognormal(random, count) * factors


def refusals(new: Server, live: Server, count: int = PAIRS) -> int:
    """Of 200 releases with their own chance, how many are refused at a ratio of 1.5."""
    verdicts = [
        judge_against_live(
            new(np.random.default_rng(seed), count), live(np.random.default_rng(1_000_000 + seed), count), max_ratio=1.5
        ).verdict
        for seed in SEEDS
    ]
    assert Verdict.INCONCLUSIVE not in verdicts
    return verdicts.count(Verdict.FAIL)


@pytest.mark.parametrize("count", [50, 60, 120, PAIRS])
@pytest.mark.parametrize("server", SERVERS)
def test_a_good_release_is_refused_at_most_once_in_200(server, count):
    """Two servers that differ by nothing but chance, however many or few answers there are."""
    assert refusals(server, server, count) <= 1


@pytest.mark.parametrize("server", [lognormal, with_outliers, with_many_outliers, two_kinds, half_and_half])
def test_twice_as_slow_is_refused(server):
    """Every answer takes twice as long: at least 195 of 200 are caught with the defaults' 300 pairs."""
    assert refusals(lambda random, count: 2 * server(random, count), server) >= 195


@pytest.mark.parametrize("server", [wide, bursts])
def test_a_release_whose_times_spread_widely_needs_more_pairs(server):
    """What 300 pairs cannot tell from chance often enough, 1000 can."""
    assert refusals(lambda random, count: 2 * server(random, count), server, 1000) >= 195


def refusals_in_the_same_moments(more_ms: float, count: int) -> int:
    """Of 200 releases that take so much longer, how many are refused where both sides are slowed together."""
    sides = [in_the_same_moments(np.random.default_rng(seed), count) for seed in SEEDS]
    verdicts = [judge_against_live(new + more_ms, live, max_ratio=1.5).verdict for new, live in sides]
    return verdicts.count(Verdict.FAIL)


@pytest.mark.parametrize(("count", "caught"), [(90, 190), (150, 200)])
def test_what_slows_both_at_the_same_moments_hides_no_slow_release(count, caught):
    """Such moments move both sides' percentiles, and chance moves their ratio the less: 20 ms more are found with half
    of the default's pairs, and a release that takes no longer is not refused."""
    assert refusals_in_the_same_moments(20, count) >= caught
    assert refusals_in_the_same_moments(0, count) == 0


def test_sides_that_are_slow_in_turn_share_no_moments():
    """Where one is slow whenever the other is not, nothing is believed of either."""
    slow = (np.arange(100) // 10) % 2

    assert judge_against_live(5.0 + 50 * slow, 55.0 - 50 * slow, max_ratio=1.5).verdict is Verdict.PASS


def test_sides_of_unequal_length_are_compared_by_their_moments():
    """What failed on one side has no time; its other answers still stand beside those of the same moments."""
    new, live = in_the_same_moments(np.random.default_rng(0), 600)
    failed = np.arange(600) % 7 == 0

    assert judge_against_live(2 * new[~failed], live, max_ratio=1.5).verdict is Verdict.FAIL
    assert judge_against_live(new[~failed], live, max_ratio=1.5).verdict is Verdict.PASS


@pytest.mark.parametrize(("count", "caught"), [(PAIRS, 180), (600, 198)])
def test_a_slow_tail_is_refused_where_median_and_mean_hardly_move(count, caught):
    """Five of a hundred answers take ten times as long."""

    def new(random: np.random.Generator, count: int) -> Times:
        return lognormal(random, count) * np.where(random.random(count) < 0.05, 10, 1)

    assert refusals(new, lognormal, count) >= caught


@pytest.mark.parametrize("server", SERVERS[1:])
def test_noise_of_what_serves_alone_refuses_nobody(server):
    """The live release's times get worse by any kind of noise; the new one's are as they were."""
    assert refusals(lognormal, server) == 0


@pytest.mark.parametrize("server", SERVERS)
def test_a_faster_release_passes(server):
    """Half the time is no reason to refuse."""
    assert refusals(lambda random, count: server(random, count) / 2, server) == 0


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0.001, 1e6), min_size=50, max_size=400), st.floats(1, 10))
def test_identical_times_always_pass(times, max_ratio):
    """Whatever they are: their band holds 1."""
    assert judge_against_live(times, times, max_ratio=max_ratio).verdict is Verdict.PASS


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 1e6), max_size=120), st.lists(st.floats(0, 1e6), max_size=120))
def test_the_same_times_give_the_same_verdict(new, live):
    """Nothing but the times decides, draw after draw; too few on either side never do."""
    first = judge_against_live(new, live, max_ratio=1.5)

    assert judge_against_live(list(new), np.array(live), max_ratio=1.5) == first
    assert (first.verdict is Verdict.INCONCLUSIVE) == (min(len(new), len(live)) < 50)


@pytest.mark.parametrize(
    ("new", "live", "said"),
    [
        ([], [5.0] * 60, "0 answers of the new release are too few to compare; at least 50"),
        ([5.0] * 49, [5.0] * 60, "49 answers of the new release are too few to compare; at least 50"),
        ([5.0] * 60, [5.0], "1 answer of what serves is too few to compare; at least 50"),
        ([5.0] * 60, [5.0] * 40 + [np.nan] * 20, "40 answers of what serves are too few to compare; at least 50"),
        ([5.0] * 40 + [np.inf] * 20, [5.0] * 60, "40 answers of the new release are too few to compare; at least 50"),
    ],
)
def test_too_few_times_decide_nothing(new, live, said):
    """No data, NaN and infinity are no measurements, and the reason says which side and how many."""
    compared = judge_against_live(new, live, max_ratio=1.5)

    assert (compared.verdict, compared.numbers) == (Verdict.INCONCLUSIVE, {})
    assert compared.reason == f"{said} (rps x duration_s of gate.against_live)"


def test_the_p99_needs_a_hundred_answers():
    """Below, it is the single slowest one."""
    few, enough = ([5.0] * count for count in (99, 100))

    assert "new_p99_ms" not in judge_against_live(few, enough, max_ratio=1.5).numbers
    assert "new_p99_ms" in judge_against_live(enough, enough, max_ratio=1.5).numbers


def test_a_refusal_reads_in_figures():
    """A sentence with times, ratios and limit; a line for each percentile with its band."""
    compared = judge_against_live([41.2] * 100, [3.1] * 100, max_ratio=1.5)
    numbers = compared.numbers

    assert compared.verdict is Verdict.FAIL
    assert compared.reason == (
        "slower than what serves: median 41.2 ms against 3.1 ms (x13.3; p95 x13.3, p99 x13.3), at most x1.5"
    )
    assert compared.details[0] == "median 41.2 ms against 3.1 ms (x13.3; with noise x13.3 to x13.3)"
    assert ["median", "p95", "p99"] == [line.split()[0] for line in compared.details]
    assert (numbers["new_p50_ms"], numbers["live_p50_ms"], numbers["p50_ratio"]) == (41.2, 3.1, 13.29)


def test_a_difference_that_nobody_feels_refuses_nobody():
    """Twice as slow, by less than a millisecond; a millisecond more is refused."""
    small = judge_against_live([0.8] * 100, [0.4] * 100, max_ratio=1.5)
    felt = judge_against_live([1.8] * 100, [0.4] * 100, max_ratio=1.5)

    assert (small.verdict, felt.verdict) == (Verdict.PASS, Verdict.FAIL)
    assert small.reason == "slower than what serves by less than 1 ms: median x2, p95 x2, p99 x2"


def test_a_band_that_reaches_the_limit_lets_through_and_says_so():
    """Seven slow answers of a hundred: perhaps the tail is slower, perhaps it is chance."""
    new, live = ([50.0 if i in slow else 5.0 for i in range(100)] for slow in (range(3, 100, 14), (20, 70)))

    compared = judge_against_live(new, live, max_ratio=1.5)
    numbers = compared.numbers

    assert compared.verdict is Verdict.PASS
    assert compared.reason == "perhaps slower than what serves, too uncertain to refuse at x1.5: p95 x10"
    assert compared.details[1] == "p95 50.0 ms against 5.0 ms (x10; with noise x1 to x10)"
    assert (numbers["p95_ratio_low"], numbers["p95_ratio_high"]) == (1, 10)


def arm(times: int = 100, requests: int = 100, release: str = "v1", first_failure: str = "") -> Arm:
    return Arm([5.0] * times, requests, requests - times, {release: times} if times else {}, first_failure)


def beside(new: Arm, live: Arm, release_id: str | None = "v2"):
    return judge_beside_live(new, live, live_url="http://live", release_id=release_id, max_ratio=1.5)


def test_what_serves_is_named_where_it_is_the_one_that_did_not_answer():
    """Fewer than 50 good answers: inconclusive, about the live release, with its first failure and the remedies."""
    compared = beside(arm(release="v2"), arm(3, first_failure="no answer: timed out"))
    numbers = compared.numbers

    assert compared.verdict is Verdict.INCONCLUSIVE
    assert compared.reason == (
        "what serves gave 3 good answers to 100 requests at http://live, too few to compare the new release with "
        "(at least 50)"
    )
    assert compared.details == (
        "its first failure: no answer: timed out",
        "let the gate reach it (edge.ingress_cidrs) and give it time (gate.against_live.duration_s), or "
        "set services.<name>.gate.against_live: null to judge by the thresholds alone",
    )
    assert (numbers["live_requests"], numbers["live_failures"]) == (100, 97)


@pytest.mark.parametrize(
    ("live", "release_id", "verdict"),
    [
        (arm(), "v2", Verdict.PASS),
        (arm(release=""), "v2", Verdict.PASS),
        (arm(release="v2"), "v2", Verdict.INCONCLUSIVE),
        (arm(release="v2"), None, Verdict.PASS),
    ],
)
def test_a_release_is_not_compared_with_itself(live, release_id, verdict):
    """Where what serves answers as the new release, alike says nothing; without an id nobody asks."""
    assert beside(arm(release="v2"), live, release_id).verdict is verdict


@pytest.mark.parametrize(
    ("new", "live", "shared"), [(20, 18, True), (20, 10, True), (20, 9, False), (20, 0, False), (0, 0, False)]
)
def test_a_fault_is_shared_when_what_serves_fails_about_as_often(new, live, shared):
    """At least half as often on the same requests."""
    assert bool(words_on_shared_failures(arm(100 - new), arm(100 - live))) is shared
