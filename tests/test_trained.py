"A finished run answers from its folder alone, as at the end of its training."
import csv, json

import numpy as np
import pytest
import torch
from conftest import NAME, TINY
from PIL import Image

from snn_repro import load_run
from snn_repro.core.files import seal
from snn_repro.core.spec import UserError
from snn_repro.records.runs import SCHEMA, open_run
from snn_repro.training.trained import Trained, read_picture, stopped


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    "A net of two classes of one's own photographs, 12 pixels wide."
    from snn_repro.cli.main import main
    root, g = tmp_path_factory.mktemp('root'), np.random.default_rng(0)
    for part in ('train', 'test'):
        for c, name in enumerate(('a bird', 'no bird')):
            home = root/'birds'/part/name
            home.mkdir(parents=True)
            for i in range(20):
                x = g.integers(0, 100, (12, 12, 3), dtype=np.uint8) + np.uint8(150*c)
                Image.fromarray(x).save(home/f'{i}.png')
    out = root/'runs'
    assert main(['run', NAME, '--root', str(root), '--out', str(out), '--set', 'recipe.epochs=4',
                 '--set', 'recipe.batch=10', '--set',
                 'data={"type":"Folder","path":"birds","size":12}']) == 0
    run, = out.glob('*/done.json')
    return run.parent, root


def test_it_answers_as_its_record_says(folder):
    run, root = folder
    trained, record = load_run(run), open_run(run)
    assert trained.classes == ('a bird', 'no bird') and trained.shape == (3, 12, 12)
    assert 'uint8' in repr(trained) and '2 classes' in repr(trained)
    files = [root/'birds/test'/c/f'{i}.png' for c in trained.classes for i in range(20)]
    x = torch.stack([read_picture(f, trained.shape, trained.dtype) for f in files])
    label = torch.arange(2).repeat_interleave(20)
    whole = trained.predict(x)
    assert abs((whole.label == label).sum() - 40*record.metrics['top1']) <= 1
    assert (whole.steps == 4).all() and whole.logits.shape == (40, 2)
    assert torch.equal(trained.predict(x, batch=7).label, whole.label)
    assert torch.equal(trained.predict(x.numpy()).logits, whole.logits)
    early = trained.predict(x, stop=.6)
    assert (early.steps <= 4).all() and ((early.confidence >= .6) | (early.steps == 4)).all()


def test_arrays_answer_as_tensors_do(tmp_path):
    from snn_repro.cli.main import main
    assert main(['run', NAME, '--out', str(tmp_path), *TINY]) == 0
    run, = tmp_path.glob('*/done.json')
    trained = load_run(run.parent)
    x = torch.rand(5, *trained.shape, generator=torch.Generator().manual_seed(0))
    known = trained.predict(x).logits
    for like in (x.double(), x.numpy(), x.double().numpy(), np.asfortranarray(x.numpy()),
                 x.flip(0).numpy()[::-1], x.numpy().astype('>f4')):
        assert torch.equal(trained.predict(like).logits, known)
    whole = (9*x).long()
    assert torch.equal(trained.predict(whole).logits, trained.predict(whole.numpy()).logits)
    for wrong in (x.tolist(), x.numpy().astype(str), x[0], x[0].numpy()):
        with pytest.raises(UserError, match='predict: expected a tensor or an array .*, found'):
            trained.predict(wrong)


def test_what_has_too_few_dimensions_for_a_clip_is_told():
    net, about = torch.nn.Identity(), dict(classes=['a', 'b'], shape=[2, 4, 4], dtype='float32',
                                           still=False)
    trained = Trained(net, None, about)
    with pytest.raises(UserError, match=r'expected .* \[T,N,2,4,4\], found \[3\]'):
        trained.predict(torch.zeros(3))


def test_the_command(folder, cli, refused, tmp_path):
    run, root = folder
    images = [root/'birds/test/a bird/0.png', root/'birds/test/no bird/1.png']
    code, out, err = cli('predict', run, *images, '--stop', .9, '--csv', tmp_path/'deep/a.csv')
    assert code == 0 and not err and 'confidence' in out
    rows = list(csv.DictReader((tmp_path/'deep/a.csv').open()))
    assert [r['file'] for r in rows] == [str(p) for p in images]
    assert {r['class'] for r in rows} <= {'a bird', 'no bird'}
    assert all(0 < float(r['confidence']) <= 1 for r in rows)
    assert 'stop is 2.0' in refused('predict', run, *images, '--stop', 2)
    assert 'no finished run' in refused('predict', tmp_path, *images)
    (tmp_path/'no.png').write_text('no image')
    assert 'cannot be decoded' in refused('predict', run, tmp_path/'no.png')


def test_a_run_of_an_older_version_is_refused_in_a_line(folder, tmp_path):
    import shutil
    old = shutil.copytree(folder[0], tmp_path/folder[0].name)
    for name in ('input.json', 'done.json'): (old/name).unlink()
    seal(old, SCHEMA)
    with pytest.raises(UserError, match='made by an older version'): load_run(old)


@pytest.mark.parametrize('change, words', [
    ({'classes': 3}, 'expected list'), ({'dtype': 1}, 'expected str'),
    *((change, 'no description') for change in (
        {'shape': [3, 12]}, {'shape': [3, 12, -1]}, {'shape': [3, 12, 2**20]}, {'mean': [1.]},
        {'std': None}, {'classes': []}, {'classes': [1, 2]}))])
def test_a_mangled_description_is_refused(folder, change, words, tmp_path):
    import shutil
    odd = shutil.copytree(folder[0], tmp_path/folder[0].name)
    about = json.loads((odd/'input.json').read_text()) | change
    (odd/'input.json').write_text(json.dumps(about))
    (odd/'done.json').unlink()
    seal(odd, SCHEMA)
    with pytest.raises(UserError, match=words): load_run(odd)


def test_stops_by_the_mean_so_far():
    logits = torch.tensor([[[3., 0.]], [[0., 9.]], [[0., 9.]]])
    assert stopped(logits, .9).steps.tolist() == [1] and stopped(logits, .9).label.tolist() == [0]
    assert stopped(logits).steps.tolist() == [3] and stopped(logits).label.tolist() == [1]
    assert stopped(logits, .99).steps.tolist() == [3]
    for stop in (0., -1., 1.5):
        with pytest.raises(UserError, match='stop is'): stopped(logits, stop)
