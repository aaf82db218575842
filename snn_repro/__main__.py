"`python -m snn_repro` is the command `snn-repro`."
import os, sys

from snn_repro.cli import main

if __name__ == '__main__':
    code = main()
    if int(os.environ.get('WORLD_SIZE', 1)) > 1:
        from snn_repro.processes import leave
        leave(code)
    sys.exit(code)
