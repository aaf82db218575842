"""Every value of every row has a source, no line of the list is idle, and a source is not named for
a value that it contradicts."""
from dataclasses import replace

import pytest

from snn_repro.analysis.exhibits import EXHIBITS, find_experiment, names
from snn_repro.core.spec import flat
from snn_repro.experiments.provenance import kinds, line_of, paper_of, source_table, sources
from snn_repro.experiments.scaling import tier_of

ROWS = {n: e for x in EXHIBITS for n, e in names(x).items() if not tier_of(e)}
ALL = list(dict.fromkeys(e for row in ROWS.values() for e in (row, row.teacher) if e))
LINES = {(paper_of(e), *kinds(e)[path],
          value if not isinstance(value, list) else tuple(value)):
             line_of(paper_of(e), *kinds(e)[path], value)
         for e in ALL for path, value in flat(e).items()}


def test_every_value_has_a_source(): assert not [k for k, line in LINES.items() if line is None]
def test_every_line_is_the_source_of_something(): assert set(source_table()) == set(LINES.values())


def test_no_source_is_named_for_what_it_contradicts():
    text = find_experiment('tks-table3-dvs-cifar10-vgg-snn-tks-text')
    said = sources(text, text, '')
    assert not [k for k in ('combine', 'detach_teacher', 'squared', 'ramp')
                if said[f'objective.0.{k}'].startswith('official')]
    for name in ('tks-table1-cifar10-tebn-star-24-resnet-19-4',
                 'tks-table2-dvs-cifar10-tebn-24-vgg-snn-10',
                 'tks-table1-imagenet-1k-tebn-24-sew-resnet-34-4'):
        e = find_experiment(name)
        assert 'TEBN' in sources(e, e, '')['arch.norm']
    enof = [e for e in ROWS.values() if paper_of(e) == 'enof']
    assert enof and not [s for e in enof for s in sources(e, e, '').values() if 'BrainCog' in s or
                         s.startswith(('TKS', 'official'))]


@pytest.mark.parametrize('name', ['tks-table3-dvs-cifar10-vgg-snn-tks', 'enof-ablation-2-l_af'])
def test_a_changed_value_is_not_said_to_be_the_papers(name):
    row = find_experiment(name)
    e = replace(row, T=3, recipe=replace(row.recipe, epochs=7))
    said = sources(e, row, 'mine')
    assert ({k for k, v in said.items() if v == 'mine'} == {'T', 'recipe.epochs'} and
            set(said) == set(flat(e)))


def test_an_experiment_of_no_paper_has_no_papers_sources():
    e = find_experiment('length-still-digits-200-192-960-tks')
    assert (len({v for v in sources(e, e, '').values()}) == 1 and
            sources(e, e, '')['T'].startswith('ours'))
