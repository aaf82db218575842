"""What `snn-repro try` says: of a loss before it is trained, and of a trial on a page and in the
terminal."""
import hashlib
from html import escape
from pathlib import Path

from snn_repro.analysis.groups import LEGEND
from snn_repro.analysis.page import html_page, html_table, picture, section_html
from snn_repro.analysis.tables import to_text
from snn_repro.analysis.trial import Checked, Trial, effect_table, method_table, part_table
from snn_repro.core.files import make_folder, write
from snn_repro.core.text import plural, span, wrap
from snn_repro.experiments.tiers import Tier

SAID = f'{LEGEND} The word is about top-1 after all steps; the differences beside it are means.'


def check_text(seen: Checked, width: int = 100, seconds: float | None = None) -> str:
    """The parts of a loss that was called and not trained, and what a trial would train; `seconds`
    that one run takes, if that is known."""
    own, ready = seen.field[seen.name], seen.ready
    left, epochs = len(ready.left), own[0].recipe.epochs
    taught = any(e.teacher for es in seen.field.values() for e in es)
    takes = f' about {span(seconds*left/len(ready.places))} here,' if seconds and left else ''
    said = [f'{seen.name}, called on eight training images by an untrained net, in the first, the '
            f'middle and the last of {plural(epochs, "epoch")}:',
            to_text(part_table(seen.parts), width),
            'The size of a gradient is the root of the sum of its squares; compare parts with each '
            'other.',
            f'A trial is {plural(ready.done + left, "run")} in {ready.out}: {seen.name} beside '
            f'{", ".join(m for m in seen.field if m != seen.name)}'
            f'{", and their teachers" if taught else ""}; {plural(len(own), "seed")}, from '
            f'{own[0].seed} on. ' +
            (f'{left} are left to do:{takes} {len(ready.places)} at a time.' if left
             else 'All of them are done.'),
            'Nothing was trained. The same command without --check trains.']
    return '\n\n'.join(t if '\n' in t else wrap(t, width) for t in said)


def next_step(trial: Trial, tier: Tier, workers: int) -> str:
    "What the length of this training means for the word, and what a longer one costs."
    runs = [r for rs in trial.runs.values() for r in rs]
    if tier.name != 'mini': return ('Effects change with length and fit (chapter 8.1); these are '
                                    f'those of {runs[0].config["recipe"]["epochs"]} epochs.')
    minutes = 16*sum(r.env['seconds'] for r in runs)/workers
    return ('Twelve epochs are short: effects change with length (chapter 8.1). With '
            f'--tier long there are sixteen times as many, which take about {span(minutes)} here.')


def trial_page(trial: Trial, tier: Tier, said: str, source: dict[str, str]) -> str:
    "The trial as a page that opens from disk, in the look of the report."
    texts = ''.join(f'<h3>{escape(name)}</h3><pre>{escape(text)}</pre>'
                    for name, text in source.items())
    return html_page(
        f'{trial.name}, judged', f'<h1>{escape(trial.name)}, judged: tier <em>{tier.name}</em></h1>'
        + picture(trial.figure, 'effects', trial.figure.caption)
        + html_table(effect_table(trial.effects)) + f'<p class="source">{SAID}</p>'
        + section_html('methods', 'Each method',
                       html_table(method_table(trial.runs)) + f'<p>{escape(said)}</p>')
        + section_html('loss', 'The loss', texts))


def page_folder(trial: Trial, loss: str, tier: Tier, on: str) -> Path:
    """Where the page of a trial of the file `loss` lies: another text, tier, setting, opponent or
    number of seeds is another folder, the same trial the same."""
    ids = '\n'.join(sorted(r.id for rs in trial.runs.values() for r in rs))
    digits = hashlib.sha256(ids.encode()).hexdigest()[:10]
    return Path('reports')/f'try-{loss}-{tier.name}-{on}-{digits}'


def write_trial(trial: Trial, tier: Tier, workers: int, source: dict[str, str], folder: Path,
                width: int = 100) -> Path:
    "Print the trial, and write its page into `folder`; the page's path."
    said = next_step(trial, tier, workers)
    path = make_folder(folder)/'index.html'
    write(path, trial_page(trial, tier, said, source))
    effects = to_text(effect_table(trial.effects), width)
    for text in (f'{trial.name} minus each of these:\n\n{effects}',
                 wrap(SAID, width),
                 to_text(method_table(trial.runs), width), wrap(said, width), f'Page: {path}'):
        print(f'\n{text}')
    return path
