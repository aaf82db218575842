"A finished run answers from its folder alone, as at the end of its training."
import csv, json, shutil

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
    for like in (x.half(), x.bfloat16(), x.numpy().astype(np.float16)):
        assert torch.equal(trained.predict(like).logits,
                           trained.predict(torch.as_tensor(like).float()).logits)
    for whole in (torch.uint8, torch.int32, torch.int64, torch.bool):
        # of a net that saw floats: 0 to 255 in place of 0 to 1 would be answered, and wrongly
        asked = (9*x).to(whole)
        for like in (asked, asked.numpy()):
            with pytest.raises(UserError, match='expected float32, found ' + str(whole)[6:]):
                trained.predict(like)
    for odd in (x.to_sparse(), x.to('meta'), x[0].expand(5, -1, -1, -1).to_sparse(),
                torch.nested.nested_tensor([*x])):
        with pytest.raises(UserError, match='predict: expected a plain tensor'):
            trained.predict(odd)
    with pytest.raises(UserError, match='expected float32, found complex64'):
        trained.predict(x.to(torch.complex64))
    for huge in (x.double()*1e300, x.double().numpy()*1e300):
        with pytest.raises(UserError, match='no finite numbers'): trained.predict(huge)
    for how, words in (({'batch': 0}, 'batch is 0'), ({'batch': 2.5}, 'batch is 2.5'),
                       ({'batch': None}, 'batch is None'), ({'stop': 'a'}, "stop is 'a'"),
                       ({'stop': float('nan')}, 'stop is nan')):
        with pytest.raises(UserError, match=words): trained.predict(x, **how)
    few = trained.predict(x, np.float32(.5), np.int64(2))
    assert torch.equal(few.label, trained.predict(x, .5).label)
    for wrong in (x.tolist(), x.numpy().astype(str), x[0], x[0].numpy()):
        with pytest.raises(UserError, match='predict: expected a tensor or an array .*, found'):
            trained.predict(wrong)


def test_what_has_too_few_dimensions_for_a_clip_is_told():
    net, about = torch.nn.Identity(), dict(classes=['a', 'b'], shape=[2, 4, 4], dtype='float32',
                                           still=False)
    trained = Trained(net, None, about)
    with pytest.raises(UserError, match=r'expected .* \[T,N,2,4,4\], found \[3\]'):
        trained.predict(torch.zeros(3))


def test_kinds_of_numbers_where_mean_and_deviation_are_known():
    about = dict(classes=['a', 'b'], shape=[1, 2, 2], dtype='float32', still=True, mean=[.5],
                 std=[2.])
    trained, x = Trained(torch.nn.Identity(), None, about), torch.rand(3, 1, 2, 2)
    for like in (x, x.double(), x.double().numpy(), x.numpy()):
        assert torch.equal(trained.ready(like), (x - .5)/2)
    for like in ((255*x).byte(), (255*x).long(), (255*x).numpy().astype(np.uint16)):
        with pytest.raises(UserError, match='expected float32, found u?int'): trained.ready(like)
    of_bytes = Trained(torch.nn.Identity(), None, about | {'dtype': 'uint8'})
    assert torch.equal(of_bytes.ready((255*x).byte().numpy()), ((255*x).byte() - .5)/2)
    for like in ((255*x).long(), (255*x).numpy().astype('int64')):
        with pytest.raises(UserError, match=r'expected uint8, found int64 \(give bytes'):
            of_bytes.ready(like)


def test_counts_in_clips_may_be_whole_numbers():
    about = dict(classes=['a', 'b'], shape=[1, 2, 2], dtype='float32', still=False)
    trained, x = Trained(torch.nn.Identity(), None, about), torch.arange(24).view(2, 3, 1, 2, 2)
    for like in (x, x.numpy().astype(np.uint16), x.float()):
        assert torch.equal(trained.ready(like), x.float())
    with pytest.raises(UserError, match='expected float32, found uint8'): trained.ready(x.byte())


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
    line = refused('predict', run, images[0], tmp_path/'no.png')
    assert 'no.png: cannot be decoded' in line and 'give another file, or leave it out' in line
    line = refused('predict', run, images[0], tmp_path/'nothing.png')
    assert 'nothing.png: no such file or directory (name files' in line


def test_a_folder_stands_for_the_files_in_it(folder, cli, refused, tmp_path):
    run, root = folder
    pics = tmp_path/'pics'
    (pics/'deeper').mkdir(parents=True)
    for name in ('10.png', '9.png', '.hidden.png', 'deeper/1.PNG'):
        shutil.copy(root/'birds/test/a bird/0.png', pics/name)
    (pics/'notes.txt').write_text('no image')
    code, _, err = cli('predict', run, pics, '--csv', tmp_path/'a.csv')
    assert code == 0 and not err
    rows = list(csv.DictReader((tmp_path/'a.csv').open()))
    assert [r['file'] for r in rows] == [str(pics/n) for n in ('9.png', '10.png', 'deeper/1.PNG')]
    (tmp_path/'empty').mkdir()
    line = refused('predict', run, tmp_path/'empty')
    assert 'there is no file .jpg' in line and 'in this folder (name files, or a' in line
    assert 'remove' not in line


def test_where_the_answers_go_is_known_before_they_are(folder, refused, tmp_path, monkeypatch):
    from snn_repro.training import trained
    run, root = folder
    image = root/'birds/test/a bird/0.png'
    monkeypatch.setattr(trained, 'load_run', lambda *a: pytest.fail('it was run'))
    assert f'{tmp_path}: this is a folder (name a file)' in refused(
        'predict', run, image, '--csv', tmp_path)
    line = refused('predict', run, image, '--csv', '/proc/x.csv')
    assert '/proc/x.csv: ' in line and '(choose a folder you may write to)' in line
    assert 'stop is nan' in refused('predict', run, image, '--stop', 'nan')
    assert '.part' not in refused('predict', run, image, '--csv', image/'x.csv')
    assert not list(tmp_path.iterdir())


def test_arrays_for_a_net_of_pictures(folder, cli, refused, tmp_path):
    run, root = folder
    x = np.stack([np.array(Image.open(root/f'birds/test/no bird/{i}.png')) for i in range(3)])
    np.save(tmp_path/'three.npy', x)
    code, out, err = cli('predict', run, tmp_path/'three.npy', '--csv', tmp_path/'a.csv')
    assert code == 0 and not err
    said = [r['class'] for r in csv.DictReader((tmp_path/'a.csv').open())]
    net = load_run(run)
    assert said == [net.classes[k] for k in net.predict(x.transpose(0, 3, 1, 2)).label]
    np.save(tmp_path/'floats.npy', x/255)
    image = root/'birds/test/a bird/0.png'
    assert 'floats.npy: expected uint8, found float32' in refused(
        'predict', run, image, tmp_path/'floats.npy')
    np.save(tmp_path/'small.npy', x[:, 1:])
    assert 'small.npy: expected a tensor or an array [N,3,12,12], found [3, 3, 11, 12]' in refused(
        'predict', run, tmp_path/'small.npy')
    np.save(tmp_path/'objects.npy', np.array([None, 'a']))
    (tmp_path/'text.npy').write_text('1, 2, 3')
    for name in ('objects.npy', 'text.npy'):
        line = refused('predict', run, tmp_path/name)
        assert f'{name}: cannot be read (no array of numbers) (write it with numpy.save)' in line


def test_a_run_of_an_older_version_is_refused_in_a_line(folder, tmp_path):
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


def test_a_picture_of_another_size_is_no_photograph_for_a_net_of_digits(tmp_path):
    digit = np.zeros((24, 24), np.uint8)
    digit[:2], digit[-2:] = 255, 255   # what a photograph's margin would lose
    Image.fromarray(digit).save(tmp_path/'digit.png')
    read = [read_picture(tmp_path/'digit.png', (1, 12, 12), 'float32', photo)[0]
            for photo in (False, True)]
    edges = [r[0].mean().item() for r in read]
    assert edges[0] > .8 and edges[1] < .3   # by the filter: 0.86, 0.21
    assert torch.equal(read[0], read[0].flip(0)) and read[0][2:-2].max() == 0
