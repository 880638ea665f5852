"""Judges: data in, verdict out, nothing else. No data is never a pass."""

from pipeline.judges.findings import IgnoreRule, judge_findings
from pipeline.judges.latency import Arm, Compared, judge_against_live, judge_beside_live, words_on_shared_failures
from pipeline.judges.load import judge_load
from pipeline.judges.parity import judge_parity
from pipeline.judges.predictions import judge_predictions
from pipeline.judges.quality import judge_quality, labels_as_text

__all__ = [
    "Arm",
    "Compared",
    "IgnoreRule",
    "judge_against_live",
    "judge_beside_live",
    "judge_findings",
    "judge_load",
    "judge_parity",
    "judge_predictions",
    "judge_quality",
    "labels_as_text",
    "words_on_shared_failures",
]
