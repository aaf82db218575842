"`python -m snn_repro` is the command `snn-repro`."
import sys

from snn_repro.cli import main
from snn_repro.surroundings import place

if __name__ == '__main__':
    code = main()
    if place()[1] > 1:
        from snn_repro.processes import leave
        leave(code)
    sys.exit(code)
