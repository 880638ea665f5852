"""The download's rows: speed and CPU time against boto3 in the same rounds."""

from benchmarks.rows import download


def run(ours: float, boto3: float) -> dict[str, dict[str, float]]:
    return {
        "ours": {"mb_s": ours, "cpu_s": 1.5},
        "boto3": {"mb_s": boto3, "cpu_s": 3.0},
        "verified": {"mb_s": boto3 / 2, "cpu_s": 3.75},
        "plain": {"mb_s": 2 * ours, "cpu_s": 1.0},
    }


def test_speed_and_cpu_are_compared_with_boto3_in_the_same_round() -> None:
    """Twice as fast at half the CPU holds both bars."""
    rows = download.rows_of([run(1000, 500), run(500, 250)], is_right=True)

    expected = [(2.0, True), (4.0, None), (0.5, None), (0.5, True), (0.4, None), (None, True)]
    assert expected == [(row.ratio, row.ok) for row in rows]


def test_a_wrong_digest_misses() -> None:
    """Speed is worth nothing when the bytes are wrong."""
    assert download.rows_of([run(1000, 500)], is_right=False)[-1].ok is False
