"Every value of every row has a source, and no line of the list is idle."
from dataclasses import replace

import pytest

from snn_repro.exhibits import EXHIBITS, find_experiment, names
from snn_repro.sources import kinds, paper_of, source_of, source_table, sources
from snn_repro.spec import flat

ROWS = [e for x in EXHIBITS for e in names(x).values()]
ALL = list(dict.fromkeys(e for row in ROWS for e in (row, row.teacher) if e))


def test_every_value_has_a_source():
    assert not {(paper_of(e), *k) for e in ALL for k in kinds(e).values() if not source_of(paper_of(e), *k)}


def test_every_line_is_the_source_of_something():
    asked = {(paper_of(e), *k) for e in ALL for k in kinds(e).values()}
    known = lambda p, kind, field: next(k for k in ((p, kind, field), ('', kind, field), (p, kind, '*'), ('', kind, '*')) if k in source_table())
    assert set(source_table()) - {known(*a) for a in asked} == set()


@pytest.mark.parametrize('name', ['tks-table3-dvs-cifar10-vgg-snn-tks', 'enof-ablation-2-l_af'])
def test_a_changed_value_is_not_said_to_be_the_papers(name):
    row = find_experiment(name)
    e = replace(row, T=3, recipe=replace(row.recipe, epochs=7))
    said = sources(e, row, 'mine')
    assert {k for k, v in said.items() if v == 'mine'} == {'T', 'recipe.epochs'} and set(said) == set(flat(e))
