"`python -m snn_repro` is the command `snn-repro`."
import sys

from snn_repro.cli.main import main
from snn_repro.core.system import place

if __name__ == '__main__':
    code = main()
    if place()[1] > 1:
        from snn_repro.core.distributed import leave
        leave(code)
    sys.exit(code)
