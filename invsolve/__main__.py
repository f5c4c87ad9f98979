"""`python -m invsolve`."""

import sys

from invsolve.commands.cli import main

if __name__ == "__main__":
    sys.exit(main())
