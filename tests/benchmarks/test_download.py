"""The benchmark of the download, in small: it must work, not be fast."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.skipif(not shutil.which("nginx", path=os.environ["PATH"] + ":/usr/sbin"), reason="needs nginx")
def test_every_client_stores_the_right_bytes() -> None:
    """Both clients and the plain GET are measured, and what each has stored has the right digest."""
    command = [sys.executable, "-m", "benchmarks.download", "--size-mib", "9", "--rounds", "1"]

    done = subprocess.run(command, cwd=REPOSITORY, stdout=subprocess.PIPE, check=True)

    result = json.loads(done.stdout)
    assert result["sha_ok"] is True
    assert {"ours", "boto3", "verified", "plain"} == set(result["rounds"][0])
    assert all(result[f"{client}_mb_s"] > 0 for client in result["rounds"][0])
