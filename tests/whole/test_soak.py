"""Left alone under blows: what comes out is exactly what was asked."""

from pathlib import Path

import pytest
import soaklab


@pytest.mark.timeout(400)
def test_whatever_is_killed_every_row_is_there_once(tmp_path: Path) -> None:
    report = soaklab.soak(tmp_path, soaklab.Terms(seed=1))
    assert report.problems == [], f"seed 1: {report}"
    assert report.beyond <= report.most_beyond, f"seed 1: {report}"
