"""Left alone under blows: what comes out is exactly what was asked."""

import tempfile
from pathlib import Path

import pytest
import soaklab


@pytest.mark.long("the soak")
@pytest.mark.timeout(400)
def test_whatever_is_killed_every_row_is_there_once() -> None:
    # Fork servers have their sockets below it, whose paths must be short.
    with tempfile.TemporaryDirectory(prefix="soak-") as short:
        report = soaklab.soak(Path(short), soaklab.Terms(seed=1))
    assert report.problems == [], f"seed 1: {report}"
    assert report.beyond <= report.most_beyond, f"seed 1: {report}"
