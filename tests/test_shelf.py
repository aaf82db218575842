"Toy sets in the published layouts, fetched from a server on this machine, unpacked, prepared and checked."
import functools, hashlib, http.server, io, tarfile, threading

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from snn_repro import shelf
from snn_repro.archives import Archive
from snn_repro.folders import StanfordDogs
from snn_repro.shelf import SHELF, check_set, home_of, prepare_set, shelf_table
from snn_repro.spec import UserError


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args): pass


@pytest.fixture
def server(tmp_path):
    (tmp_path/'www').mkdir()
    s = http.server.ThreadingHTTPServer(('127.0.0.1', 0), functools.partial(Quiet, directory=tmp_path/'www'))
    threading.Thread(target=s.serve_forever, args=(.02,), daemon=True).start()
    yield tmp_path/'www', f'http://127.0.0.1:{s.server_port}'
    s.shutdown()
    s.server_close()


@pytest.fixture
def root(tmp_path):
    (tmp_path/'data').mkdir()
    return tmp_path/'data'


def said(f, *args, **kw):
    with pytest.raises(UserError) as e: f(*args, **kw)
    assert '\n' not in str(e.value)
    return str(e.value)


def publish(monkeypatch, server, kind, **archives):
    "Put tars of (name, bytes) on the server, and their sums into the set's `about`."
    www, url = server
    made = []
    for a in kind.about.archives:
        with tarfile.open(www/a.name, 'w') as t:
            for name, content in archives[a.name.split('.')[0]].items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                t.addfile(info, io.BytesIO(content))
        made.append(Archive(a.name, hashlib.md5((www/a.name).read_bytes()).hexdigest(), None, (f'{url}/gone', f'{url}/{a.name}')))
    monkeypatch.setattr(kind, 'about', kind.about._replace(archives=tuple(made)))


def png(k):
    file = io.BytesIO()
    Image.new('RGB', (40, 30), (k, 100, 200)).save(file, 'png')
    return file.getvalue()


def mat(**values):
    file = io.BytesIO()
    savemat(file, values)
    return file.getvalue()


def toy_dogs(monkeypatch, server):
    names = [f'n{k}-Dog/n{k}_{i}.png' for k in range(2) for i in range(3)]
    def listed(of): return mat(file_list=np.array([[names[i]] for i in of], object), labels=np.array([[i // 3 + 1] for i in of]))
    publish(monkeypatch, server, StanfordDogs, images={f'Images/{n}': png(i) for i, n in enumerate(names)},
            lists={'train_list.mat': listed([0, 1, 3, 4]), 'test_list.mat': listed([2, 5])})
    monkeypatch.setattr(StanfordDogs, 'numbers', (4, 2, 2))


def test_the_shelf_lists_every_set_the_papers_use(root):
    table = shelf_table(root)
    assert list(table.index) == list(SHELF) and table.notna().all(axis=None) and len(table) == 9
    for name, place in SHELF.items():
        about = place.kind.about
        assert about.title and about.origin and about.licence and about.place and home_of(place.kind, root) is None
        if place.unpack: assert set(place.unpack) == {a.name for a in about.archives}
        assert all(len(a.md5) == 32 and all(u.startswith('http') for u in a.urls) for a in about.archives if a.md5)
        line = said(check_set, name, root)
        assert name in line and str(root) in line
        if not shelf.can_be_fetched(place): assert str(root) in said(prepare_set, name, root)
    assert 'there are: CIFAR10' in said(check_set, 'cifar', root)


def test_two_archives_are_fetched_unpacked_and_checked(monkeypatch, server, root):
    toy_dogs(monkeypatch, server)
    lines = prepare_set('StanfordDogs', root)
    assert len(lines) == 2 and 'nothing to do' in prepare_set('StanfordDogs', root)[0]
    checked = check_set('StanfordDogs', root)
    assert sum('published one' in l for l in checked) == 2 and '4 training and 2 test images of 2 classes' in checked[2]
    assert 'StanfordDogs' in shelf_table(root).there['StanfordDogs'] and not list(root.rglob('*.part'))
    (root/'StanfordDogs/Images/n0-Dog/n0_2.png').write_bytes(png(0)[:30])
    assert 'n0_2.png' in said(check_set, 'StanfordDogs', root)


def test_an_interrupted_preparation_goes_on(monkeypatch, server, root):
    toy_dogs(monkeypatch, server)
    (server[0]/'lists.tar').rename(server[0]/'later')
    assert 'lists.tar' in said(prepare_set, 'StanfordDogs', root)
    assert (root/'StanfordDogs'/'Images').is_dir()
    (server[0]/'later').rename(server[0]/'lists.tar')
    assert len(prepare_set('StanfordDogs', root)) == 1 and check_set('StanfordDogs', root)


def test_an_archive_put_there_by_hand_is_used_and_believed_by_its_sum(monkeypatch, server, root):
    toy_dogs(monkeypatch, server)
    for n, place in (('images.tar', root), ('lists.tar', root/'archives'/'StanfordDogs')):
        place.mkdir(parents=True, exist_ok=True)
        (server[0]/n).rename(place/n)
    (root/'images.tar').write_bytes((root/'images.tar').read_bytes() + b'x')
    assert 'MD5 differs' in said(prepare_set, 'StanfordDogs', root) and 'MD5 differs' in said(check_set, 'StanfordDogs', root)
    (root/'images.tar').write_bytes((root/'images.tar').read_bytes()[:-1])
    assert len(prepare_set('StanfordDogs', root)) == 2


def test_a_set_with_too_little_in_it_is_named(monkeypatch, server, root):
    toy_dogs(monkeypatch, server)
    monkeypatch.setattr(StanfordDogs, 'numbers', (5, 2, 2))
    assert '4 training images, not 5' in said(prepare_set, 'StanfordDogs', root)


def test_real_cifar_is_checked_pixel_by_pixel(real):
    lines = check_set('CIFAR10', real('cifar10'))
    assert '50000 training and 10000 test images of 10 classes' in lines[0] and 'every pixel' in lines[1]
    assert 'nothing to do' in prepare_set('CIFAR10', real('cifar10'))[0]


def test_real_recordings_are_prepared_once(real, tmp_path):
    given = real('nmnist')/'nmnist_small'
    home = tmp_path/'data'/'N-MNIST'
    for part in ('Train', 'Test'):
        for digit in range(10):
            to = home/part/str(digit)
            to.mkdir(parents=True)
            for file in sorted((given/part/str(digit)).glob('*.bin'))[:2]: (to/file.name).write_bytes(file.read_bytes())
    line, = prepare_set('NMNIST', tmp_path/'data', T=3)
    assert 'frames for 3 steps' in line and 'all 40 can be read' in check_set('NMNIST', tmp_path/'data')[-1]
    assert prepare_set('NMNIST', tmp_path/'data', T=3) == [line]
    bad = next(home.rglob('*.bin'))
    bad.write_bytes(bad.read_bytes()[:7])
    assert bad.name in said(check_set, 'NMNIST', tmp_path/'data')
