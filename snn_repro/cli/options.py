"What each verb of the command line understands."
import argparse, shutil, sys
from pathlib import Path

from snn_repro import __version__
from snn_repro.cli.examples import epilog
from snn_repro.core.spec import UserError, check
from snn_repro.core.system import name_user, place, speak_any_letter
from snn_repro.core.text import is_quiet, near
from snn_repro.experiments.tiers import TIERS


class Help(argparse.HelpFormatter):
    "Examples stay in their lines, and a verb of nine letters has its help beside it."
    def __init__(self, *args, **how):
        super().__init__(*args, **how)
        self._action_max_length = 13

    def _fill_text(self, text, width, indent):
        return text if text.startswith('examples:') else super()._fill_text(text, width, indent)


class Parser(argparse.ArgumentParser):
    def __init__(self, **how): super().__init__(formatter_class=Help, **how)
    def error(self, message, guess=''):
        raise UserError(message, remedy=f'{guess}see `{self.prog} --help`')

    def parse_known_args(self, args=None, namespace=None):
        "As `argparse` has it, but a verb itself refuses what it does not know."
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            name, is_option = unknown[0].partition('=')[0], unknown[0].startswith('-')
            self.error(f'unknown {"option" if is_option else "argument"} {name}',
                       near(name, self._option_string_actions) if is_option else '')
        return found, unknown


def option(*names, **how): return lambda verb: verb.add_argument(*names, **how)


def folder(name: str, what: str, **how):
    return option(name, type=Path, metavar='DIR', help=what, **how)


def number(name: str, what: str, kind=int, metavar='N', **how):
    return option(name, type=kind, metavar=metavar, help=what, **how)


TIER = option('--tier', default='mini', help=f'{", ".join(TIERS)} (default: mini)')
ONLY = option('--only', nargs='+', metavar='ID',
              help='these tables and figures, or parts of them (see `list`)')
NAME = option('experiment', metavar='EXPERIMENT',
              help='a name that `list ID` prints, or a config.json')
OUT = folder('--out', 'folder of the runs (default: runs/TIER)')
ROOT = folder('--root', 'folder of the data sets (default: data)', default=Path('data'))
RUNS = folder('--runs', 'folders of runs, side by side, the first compared with each other one '
              '(default: runs/TIER, or else the committed results/TIER)', nargs='+')
TABLES = option('--tables', action='store_true', help='also print every table')
EDITS = option('--set', action='append', default=[], metavar='KEY=VALUE',
               help='change a value, e.g. recipe.epochs=5, objective.0.peak=0.5 or arch=MyNet')
CHANGES = (number('--seed', 'default 0', metavar='SEED'), EDITS,
           option('--variant', metavar='NAME',
                  help='paper: our reading of the text where the official code differs'))
JSON = option('--json', type=Path, metavar='FILE',
              help='also write what was found, with versions and hardware, into this file')
IMPORT = option('--import', dest='imports', action='append', default=[], type=Path,
                metavar='FILE', help='a Python file with losses, nets or data sets of your own')
QUIET = option('--quiet', action='store_true',
               help='no bars and no progress: only what came out, and errors')
DEVICE = option('--device', default='cpu', help='cpu (default), cuda, …')
MACHINE = (ROOT, DEVICE, IMPORT, QUIET,
           number('--threads', 'threads of torch (default 1: the same bytes whatever the cores)',
                  default=1),
           number('--checkpoint', 'seconds from one checkpoint to the next (default 300)', float,
                  'S', default=300),
           number('--processes', 'processes that share each batch (default 1)', default=1),
           folder('--tensorboard',
                  'also write each epoch as events of TensorBoard into this folder'),
           option('--fuse', choices=['maps', 'bits', 'blocks'],
                  help='convolution, norm and neuron as one compiled operation, for long runs, and '
                  'what it keeps: maps (fastest), bits (least memory) or blocks'))
CLUSTER = (option('--launcher', choices=['local', 'slurm'], default='local',
                  help='local (default): this machine; slurm: jobs of a cluster'),
           option('--partition', metavar='P', help='slurm: where the jobs run'),
           number('--jobs', 'slurm: jobs at a time (default 8)', default=8),
           number('--nodes', 'slurm: nodes that share a run (default 1)', default=1),
           number('--time', 'slurm: minutes of a job; what is not finished then is queued again '
                  '(default 240)', metavar='MIN', default=240),
           option('--sbatch', action='append', default=[], metavar='KEY=VALUE',
                  help='slurm: a further option of sbatch, e.g. mem=16G'),
           option('--dry-run', action='store_true', help='slurm: print what would be submitted'))

OPTIONS = {
    'reproduce': (TIER, ONLY, OUT, TABLES, *MACHINE,
                  number('--workers', 'runs at a time (default: one a core, or one a GPU)'),
                  folder('--pack', 'also write the finished runs as one packed folder, and enter '
                         'them in the ledger.csv beside it'), *CLUSTER),
    'work': (folder('out', 'folder with the plan.jsonl of a `reproduce`'), *MACHINE),
    'status': (folder('dir', 'folder of the runs'),),
    'compare': (option('runs', nargs='+', metavar='RUNS',
                       help='A and B, each the folder of a run, a folder of runs, or a pattern in '
                       'quotes such as "runs/mini/*-tks-s*"; or all the runs of two settings'),),
    'plan': (option('id', nargs='+', metavar='ID', help='a table or figure (see `list`)'), TIER,
             OUT, ROOT, DEVICE, IMPORT, EDITS,
             number('--steps', 'steps that are timed of each kind of run (default 5)', default=5),
             number('--devices', 'processors or GPUs that share the runs (default 1)', default=1,
                    metavar='K')),
    'list': (option('id', nargs='?', metavar='ID',
                    help='a table or figure: print its experiments'), TIER, OUT),
    'show': (NAME, TIER, *CHANGES, IMPORT,
             option('--diff', metavar='NAME', help='only what this variant changes: paper')),
    'run': (NAME, TIER, *CHANGES, OUT, *MACHINE,
            number('--steps', 'only try the first N steps, and write nothing')),
    'data': (option('action', choices=['list', 'check', 'prepare']),
             option('name', nargs='?', metavar='NAME'), ROOT, IMPORT, EDITS,
             number('--frames', 'list, prepare: frames a recording (default 10)', default=10,
                    metavar='T')),
    'report': (TIER, ONLY, RUNS, TABLES,
               folder('--out', 'folder of the page (default: reports/TIER)')),
    'verify': (folder('dir', 'folder of packed records, or of runs (default: results)', nargs='?',
                      default=Path('results')),),
    'predict': (folder('run', 'folder of a finished run'),
                option('images', nargs='+', type=Path, metavar='IMAGE',
                       help='image files; or recordings, or .npy files of samples, as it saw'),
                number('--stop', 'end at the first step that is as sure (0 to 1)', float, 'P'),
                option('--csv', type=Path, metavar='FILE', help='also write the answers there'),
                DEVICE, IMPORT),
    'export': (folder('run', 'folder of a finished run'),
               option('--to', required=True, choices=['spikingjelly', 'nir', 'onnx', 'torch'],
                      help='what is written: layers of SpikingJelly, a NIR graph, an ONNX model '
                      'or a torch.export program'),
               option('--out', type=Path, metavar='FILE',
                      help='the new file (default: the name of the run, in this folder)'), IMPORT),
    'bench': (option('race', nargs='*', metavar='RACE',
                     help='neurons, training, inference, memory, objectives, data, growth, gpu, or '
                     'the id of one race (default: all but growth and gpu)'),
              DEVICE, option('--peers', action='store_true',
                             help='also Norse, snnTorch and sinabs, where they are installed'),
              number('--threads', 'threads of torch (default 2)', default=2),
              number('--repeats', 'rounds of each race (default 9)', default=9), JSON),
    'try': (option('loss', nargs='?', metavar='FILE.py[:NAME]',
                   help='a Python file with a class derived from Objective; NAME where it has '
                   'several, or a tuple of terms'),
            option('--new', type=Path, metavar='FILE.py',
                   help='write a loss to begin with into this new file, and do nothing else'),
            option('--check', action='store_true',
                   help='call it as a training would, print its parts and their gradients and what '
                   'would be trained, and train nothing'),
            option('--against', nargs='+', default=['Baseline', 'TET', 'TKS'], metavar='METHOD',
                   help='methods to compare with (default: Baseline TET TKS)'),
            option('--tier', default='mini', help='mini (default), long, small, …'),
            option('--on', choices=['still', 'events'], default='still',
                   help='still images (default) or event clips'),
            number('--seeds', 'paired seeds (default: those of the tier)'),
            number('--first-seed', 'the first of them (default: that of the tier)'),
            option('--set', action='append', default=[], metavar='KEY=VALUE',
                   help='change a value of the loss, e.g. weight=0.3'),
            OUT, *MACHINE,
            number('--workers', 'runs at a time (default: one a core, or one a GPU)')),
    'sprint': (option('experiment', nargs='?', metavar='EXPERIMENT',
                      default='tks-table3-cifar10-resnet19-baseline',
                      help='a name that `list ID` prints, or a config.json'),
               option('--tier', default='short',
                      help=f'{", ".join(TIERS)} (default: short)'), EDITS,
               folder('--out', 'folder of the runs (default: runs/sprint)'), *MACHINE,
               number('--goal', 'top-1 in per cent (default 94)', float, 'PERCENT', default=94),
               number('--seeds', 'runs, one a seed (default 5)', default=5), JSON),
}


def at_least_one(a, *names):
    for name in names:
        check(getattr(a, name) is None or getattr(a, name) >= 1, f'--{name} is {getattr(a, name)}',
              remedy='choose 1 or more')


def check_machine(a):
    at_least_one(a, 'threads', 'processes')
    check(a.checkpoint >= 0, f'--checkpoint is {a.checkpoint}', remedy='choose seconds, 0 or more')


def runtime(a, bar: bool = False):
    from snn_repro.training.environment import Runtime
    check_machine(a)
    return Runtime(a.root, a.device, a.threads, bar and not is_quiet(), a.checkpoint,
                   a.processes, a.tensorboard, a.fuse, tuple(f.resolve() for f in a.imports))


def chosen(a):
    from snn_repro.analysis.exhibits import asked
    from snn_repro.experiments.tiers import find_tier
    return asked(a.experiment, find_tier(a.tier), getattr(a, 'variant', None), a.set,
                 getattr(a, 'seed', None))


def columns() -> int: return max(40, shutil.get_terminal_size((100, 24)).columns)


def make_do():
    "What a process of the command line needs and its surroundings may lack."
    speak_any_letter()
    name_user()


def tells(argv) -> bool:
    "Whether this process says what went wrong: of a team that shares runs, the first one alone."
    verb = ''.join((sys.argv[1:] if argv is None else argv)[:1])
    return place()[0] == 0 or verb not in ('run', 'work', 'reproduce', 'sprint')


def parser(*functions) -> Parser:
    """The parser of the command line: a verb a function, its help the function's docstring, its
    options those of `OPTIONS`."""
    p = Parser(prog='snn-repro', epilog='`snn-repro VERB --help` has options and examples.',
               description='TKS and EnOF-SNN rebuilt: every table and figure from run records.')
    p.add_argument('--version', action='version', version=f'snn-repro {__version__}')
    verbs = p.add_subparsers(dest='verb', metavar='VERB')
    p.set_defaults(do=lambda a: p.print_help())
    for do in functions:
        name = do.__name__.removesuffix('_')
        verb = verbs.add_parser(name, help=do.__doc__, description=do.__doc__,
                                epilog=epilog(name))
        for add in OPTIONS[name]: add(verb)
        verb.set_defaults(do=do)
    return p
