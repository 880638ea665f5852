"""Metric math, statistics and the rules for missing data, on plain numbers."""

from __future__ import annotations

import pytest

from rehearsal.metering.alarms import ALARM, NO_DATA, OK, judge
from rehearsal.metering.expressions import CannotEvaluate, Scope, parse
from rehearsal.metering.store import Sample, statistic

NONE = None
METRICS = {"m1": [1.0, NONE, 3.0], "m2": [10.0, 20.0, NONE], "zero": [0.0, 0.0, 0.0]}


def scope(reduces: bool = True) -> Scope:
    """The metrics above, to refer to."""

    def look_up(name):
        if name not in METRICS:
            raise CannotEvaluate(f"the id '{name}'")
        return METRICS[name]

    return Scope(look_up, METRICS, reduces)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("m1 + m2", [11.0, NONE, NONE]),
        ("FILL(m1, 0) + FILL(m2, 0)", [11.0, 20.0, 3.0]),
        ("FILL(m2, REPEAT)", [10.0, 20.0, 20.0]),
        ("1 + 2 * 3 - 4 / 2", 5.0),
        ("-2 ^ 2 + 8", 4.0),
        ("(1 + 2) * 3", 9.0),
        ("m2 / zero", [NONE, NONE, NONE]),
        ("IF(m2 > 10, m2, 0)", [0.0, 20.0, NONE]),
        ("IF(FILL(m2, 0) >= 20, 1)", [NONE, 1.0, NONE]),
        ("IF(m1 > 0 AND m2 < 15, 1, 0)", [1.0, NONE, NONE]),
        ("SUM([m1, m2])", [11.0, 20.0, 3.0]),
        ("MAX([FILL(m1, 0), FILL(m2, 5)])", [10.0, 20.0, 5.0]),
        ("MIN([m1, m2]) * 1000", [1000.0, 20000.0, 3000.0]),
        ("AVG([m1, m2])", [5.5, 20.0, 3.0]),
        ("SUM(m1)", 4.0),
        ("SUM(METRICS('m'))", [11.0, 20.0, 3.0]),
        ("m1 / (m1 + m2)", [1 / 11, NONE, NONE]),
        ("IF(FILL(m1,0) + FILL(m2,0) >= 20, 100 * m2 / (FILL(m1,0) + m2), 0)", [0.0, 100.0, 0.0]),
        ("ABS(0 - m1)", [1.0, NONE, 3.0]),
        ("zero ^ (0 - 1)", [NONE, NONE, NONE]),
    ],
)
def test_expressions_compute_as_cloudwatch_does(expression, expected):
    """Missing points stay missing unless they are filled, and a division by zero is missing."""
    got = parse(expression)(scope())
    assert expected == got


@pytest.mark.parametrize(
    ("expression", "named"),
    [
        ("ANOMALY_DETECTION_BAND(m1, 2)", "ANOMALY_DETECTION_BAND"),
        ("RATE(m1)", "RATE"),
        ("SEARCH('{A,B}', 'Sum', 60)", "SEARCH"),
        ("SELECT AVG(x) FROM y", "SELECT"),
        ("m1 +", "end"),
        ("m1 ? m2", "?"),
        ("m1 m2", "m2"),
        ("nobody + 1", "nobody"),
        ("FILL(m1)", "FILL"),
    ],
)
def test_what_is_not_computed_is_refused_by_name(expression, named):
    """An expression that is not rehearsed is an error that names what in it is not."""
    with pytest.raises(CannotEvaluate) as refused:
        parse(expression)(scope())
    assert named in str(refused.value)


def test_percentiles_come_from_raw_values():
    """A percentile is the value that so many percent of all raw values do not exceed, over all samples."""
    samples = [Sample.of(range(1, 51)), Sample.of(range(51, 101))]
    found = [statistic(samples, name) for name in ("p50", "p99", "p100", "p99.9", "p0")]
    assert [50.0, 99.0, 100.0, 100.0, 1.0] == found
    assert [100, 50.5, 5050.0, 1.0, 100.0] == [
        statistic(samples, name) for name in ("SampleCount", "Average", "Sum", "Minimum", "Maximum")
    ]
    assert None is statistic([Sample(2, 10.0, 4.0, 6.0)], "p99")


# The tables of https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarms-and-missing-data.html
ROWS = [
    (3, "0-X-X", (OK, OK, OK, OK)),
    (3, "----0", (OK, OK, OK, OK)),
    (3, "-----", (NO_DATA, "current", ALARM, OK)),
    (3, "0XX-X", (ALARM, ALARM, ALARM, ALARM)),
    (3, "--X--", (ALARM, "current", ALARM, OK)),
    (2, "0-X-X", (ALARM, ALARM, ALARM, ALARM)),
    (2, "00X0X", (ALARM, ALARM, ALARM, ALARM)),
    (2, "0-X--", (OK, OK, ALARM, OK)),
    (2, "----0", (OK, OK, ALARM, OK)),
]


@pytest.mark.parametrize(("wanted", "data", "expected"), ROWS)
def test_missing_data_is_treated_as_the_documentation_says(wanted, data, expected):
    """`wanted` of three periods, with five points at hand, under each of the four treatments."""
    breaching = [{"0": False, "X": True, "-": None}[sign] for sign in data]
    treatments = ("missing", "ignore", "breaching", "notBreaching")
    found = tuple(judge(breaching, 3, wanted, treatment, "current") for treatment in treatments)
    assert expected == found
