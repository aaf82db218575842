"What one types: examples of each verb, for its help."

RUN = 'tks-table3-cifar10-resnet19-tks'

# verb -> pairs of what follows `snn-repro`, and what it does
EXAMPLES = {
    'reproduce': (
        ('reproduce', 'every table and figure in tier mini: minutes on two cores'),
        ('reproduce --only tks-table3 --quiet', 'one table, without bars'),
        ('reproduce --tier small --only enof-ablation --root data',
         'one table on real CIFAR-10, hours on a CPU')),
    'work': (
        ('work runs/mini', 'a further worker beside a `reproduce`, here or on another machine'),),
    'status': (
        ('status runs/mini', 'what is done, running and left'),),
    'compare': (
        ("compare 'runs/mini/*-tks-s*' 'runs/mini/*-ce-s*'",
         'two settings, their runs paired by seed'),
        ('compare runs/mini/RUN runs/other/RUN', 'two runs, such as the same of two machines')),
    'plan': (
        ('plan tks-table3 --tier paper', 'hours of one table at full size, data not needed'),
        ('plan tks-table3-cifar10 --tier small --devices 2', 'a part of it, two runs at a time')),
    'list': (
        ('list', 'tables, figures and claims: what has run, and the verdicts'),
        ('list tks-table3', 'its experiments, and which of them are done'),
        ('list --tier small', 'the same for another tier')),
    'show': (
        (f'show {RUN}', 'its values, and where each comes from'),
        (f'show {RUN} --tier paper --diff paper',
         "where the paper's text differs from its authors' code")),
    'run': (
        (f'run {RUN}', 'train it; a second time it is already there'),
        (f'run {RUN} --seed 1 --set T=2', 'with another seed and two steps'),
        (f'run {RUN} --steps 3', 'only try three steps')),
    'try': (
        ('try --new my_loss.py', 'a loss to begin with'),
        ('try my_loss.py --check', 'its parts and their gradients; nothing is trained'),
        ('try my_loss.py --seeds 5', 'train it beside the baseline, TET and TKS'),
        ('try my_loss.py --set weight=0.3 --on events --tier long',
         'with a value changed, on event clips, for longer')),
    'predict': (
        ('predict runs/mini/RUN cat.png dog.png --csv answers.csv', 'two images'),
        ('predict runs/mini/RUN cat.png --stop 0.9', 'as few steps as make it 90 % sure'),
        ('predict runs/mini/RUN pictures', 'every image in a folder and below')),
    'export': (
        ('export runs/mini/RUN --to torch', 'RUN.pt2: a program that PyTorch alone runs'),
        ('export runs/mini/RUN --to onnx --out digits.onnx', 'an ONNX model')),
    'data': (
        ('data list', 'the sets, the room they take, and what is free'),
        ('data prepare CIFAR10', 'fetch it, check it and unpack it into data/'),
        ('data check Folder --set path=birds', 'whether your own images can be read')),
    'report': (
        ('report', 'the page of your runs in tier mini'),
        ('report --runs runs/mini results/mini', 'your runs beside ours'),
        ('report --tier small --only enof-ablation --tables', 'one table, printed, too')),
    'verify': (
        ('verify', 'the committed records'),
        ('verify runs/mini', 'your own')),
    'bench': (
        ('bench neurons inference', 'two groups of races'),
        ('bench --device cuda --json bench.json', 'on a GPU, kept in a file')),
    'sprint': (
        ('sprint --device cuda --fuse maps', 'seconds to 94 %, five seeds'),
        (f'sprint {RUN} --tier mini --goal 85', 'the same for a small net')),
}


def epilog(verb: str) -> str:
    "The examples of a verb, as its help prints them."
    lines = [f'  snn-repro {words}\n      {what}' for words, what in EXAMPLES.get(verb, ())]
    return '\n'.join(['examples:', *lines]) if lines else ''
