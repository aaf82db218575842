"The command `snn-repro`. What it cannot do it says in one line."
import errno, os, sys, warnings


def warn(message, *_, **__): print(f'snn-repro: {message}', file=sys.stderr)


def main(argv=None) -> int:
    "The exit code of the command with the arguments `argv`, those of this process if None."
    kept = ''
    try:   # what is imported here takes long enough for a ctrl-C
        from snn_repro.cli.options import make_do, parser, tells
        from snn_repro.cli.verbs import VERBS
        from snn_repro.core.own import import_file
        from snn_repro.core.spec import UserError
        from snn_repro.core.text import quiet
        make_do()
        warnings.showwarning = warn
        try:
            a = parser(*VERBS).parse_args(argv)
            if hasattr(a, 'quiet'):   # it trains
                kept = ' Finished runs are kept; the same command goes on from here.'
            for file in getattr(a, 'imports', ()): import_file(file)
            with quiet(getattr(a, 'quiet', False)): a.do(a)
            sys.stdout.flush()
            return 0
        except (UserError, MemoryError) as e:
            if tells(argv): print(f'snn-repro: {e}', file=sys.stderr)
    except BrokenPipeError: sys.stderr.close()
    except OSError as e:
        if e.errno != errno.ENOSPC: raise
        drop_output()
        print('snn-repro: the output could not be written: no space is left (make room for it)',
              file=sys.stderr)
    except KeyboardInterrupt:
        print(f'\nsnn-repro: stopped.{kept}', file=sys.stderr)
        return 130
    return 1


def drop_output():
    "What is still to be printed goes nowhere, so that the end of the process does not try again."
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == '__main__': sys.exit(main())
