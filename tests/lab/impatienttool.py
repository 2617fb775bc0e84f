"""The command line as it is, but for the time after which a worker that says nothing counts as hung."""

import sys

from stagingest import cli
from stagingest.fetching import run

if __name__ == "__main__":
    run.HUNG_S = 3.0
    sys.exit(cli.main())
