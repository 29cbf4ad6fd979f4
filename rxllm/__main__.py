"""`python -m rxllm`: the command line."""

import sys

from rxllm.command_line import main

if __name__ == "__main__":
    sys.exit(main())
