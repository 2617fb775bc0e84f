"""`python -m stagingest`."""

from stagingest.cli import main

if __name__ == "__main__":
    main()
