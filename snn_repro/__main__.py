"`python -m snn_repro` is `snn-repro`."
import sys

from snn_repro.cli import main

if __name__ == '__main__': sys.exit(main())
