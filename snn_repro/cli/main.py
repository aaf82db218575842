"The command `snn-repro`. What it cannot do it says in one line."
import sys, warnings

from snn_repro.cli.options import make_do, parser, tells
from snn_repro.cli.verbs import VERBS
from snn_repro.core.own import import_file
from snn_repro.core.spec import UserError
from snn_repro.core.text import quiet


def warn(message, *_, **__): print(f'snn-repro: {message}', file=sys.stderr)


def main(argv=None) -> int:
    make_do()
    warnings.showwarning = warn
    try:
        a = parser(*VERBS).parse_args(argv)
        for file in getattr(a, 'imports', ()): import_file(file)
        with quiet(getattr(a, 'quiet', False)): a.do(a)
        return 0
    except (UserError, MemoryError) as e:
        if tells(argv): print(f'snn-repro: {e}', file=sys.stderr)
    except BrokenPipeError: sys.stderr.close()
    except KeyboardInterrupt:
        print('\nsnn-repro: stopped. Finished runs are kept; '
              'the same command goes on from here.', file=sys.stderr)
        return 130
    return 1


if __name__ == '__main__': sys.exit(main())
