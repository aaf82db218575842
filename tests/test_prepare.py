"""Toy sets in the published layouts, fetched from a server on this machine, unpacked, prepared and
checked."""
import functools, hashlib, http.server, io, re, shutil, tarfile, threading

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from snn_repro.core.spec import UserError
from snn_repro.core.text import amount
from snn_repro.data import prepare
from snn_repro.data.download import Archive
from snn_repro.data.event_sets import DVSCIFAR10, NMNIST
from snn_repro.data.image_folders import StanfordDogs
from snn_repro.data.prepare import (KNOWN_SETS, check_set, dataset_path, prepare_set, read_all,
                                    sets_table)


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args): pass


@pytest.fixture
def server(tmp_path):
    (tmp_path/'www').mkdir()
    s = http.server.ThreadingHTTPServer(('127.0.0.1', 0),
                                        functools.partial(Quiet, directory=tmp_path/'www'))
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
        made.append(Archive(a.name, hashlib.md5((www/a.name).read_bytes()).hexdigest(), None,
                            (f'{url}/gone', f'{url}/{a.name}')))
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

    def listed(of):
        return mat(file_list=np.array([[names[i]] for i in of], object),
                   labels=np.array([[i // 3 + 1] for i in of]))

    publish(monkeypatch, server, StanfordDogs,
            images={f'Images/{n}': png(i) for i, n in enumerate(names)},
            lists={'train_list.mat': listed([0, 1, 3, 4]), 'test_list.mat': listed([2, 5])})
    monkeypatch.setattr(StanfordDogs, 'numbers', (4, 2, 2))


def test_the_shelf_lists_every_set_the_papers_use(root):
    table = sets_table(root)
    assert list(table.index) == list(KNOWN_SETS) and len(table) == 9
    assert table.notna().all(axis=None)
    for name, place in KNOWN_SETS.items():
        about = place.kind.about
        assert (about.title and about.origin and about.licence and about.place and
                dataset_path(place.kind, root) is None)
        if place.unpack: assert set(place.unpack) == {a.name for a in about.archives}
        assert all(len(a.md5) == 32 and all(u.startswith('http') for u in a.urls)
                   for a in about.archives if a.md5)
        line = said(check_set, name, root)
        assert name in line and str(root) in line
        if not prepare.can_be_fetched(place): assert str(root) in said(prepare_set, name, root)
    assert 'there are: CIFAR10' in said(check_set, 'cifar', root)


def test_the_list_tells_what_a_set_takes_and_what_is_there(cli, root):
    toy_nmnist(root)
    (root/'archives/NMNIST').mkdir(parents=True)
    (root/'archives/NMNIST/Train.zip').write_bytes(b'x'*21_000)
    before = sets_table(root, 3).loc['NMNIST']
    files = sum(p.stat().st_size for p in (root/'N-MNIST').rglob('*.bin'))
    assert before['here'] == f'21 kB packed + {amount(files)} unpacked'
    assert list(before[['download', 'unpacked', '3 frames']]) == ['1.1 GB', '1.4 GB', '3.9 GB']
    prepare_set('NMNIST', root, 3)
    frames = sum(p.stat().st_size for p in (root/'prepared').rglob('*') if p.is_file())
    assert sets_table(root).here['NMNIST'] == before['here'] + f' + {amount(frames)} frames'
    pixels = 50*3*2*48**2*4   # of fifty recordings
    assert 0 < frames - pixels < 20_000
    assert sets_table(root).here['CUB200'] == '–'
    code, out, _ = cli('data', 'list', '--root', root/'not'/'yet')
    assert code == 0 and re.search(r'\d [GM]B are free under ', out.splitlines()[-1])


def test_two_archives_are_fetched_unpacked_and_checked(monkeypatch, server, root):
    toy_dogs(monkeypatch, server)
    lines = prepare_set('StanfordDogs', root)
    assert len(lines) == 2 and 'nothing to do' in prepare_set('StanfordDogs', root)[0]
    checked = check_set('StanfordDogs', root)
    assert (sum('published one' in l for l in checked) == 2 and
            '4 training and 2 test images of 2 classes' in checked[2])
    assert ('StanfordDogs' in sets_table(root).there['StanfordDogs'] and
            not list(root.rglob('*.part')))
    assert checked[3] == 'images: all 6 can be read; sizes: 40×30 to 40×30 pixels'
    for name in ('n0_2', 'n0_1'):
        (root/'StanfordDogs/Images/n0-Dog'/f'{name}.png').write_bytes(png(0)[:30])
    line = said(check_set, 'StanfordDogs', root)
    assert 'n0_1.png' in line and '2 such of 6 images' in line   # training images come first


def test_only_the_first_failure_is_kept():
    def read(n):
        if n % 3 == 2: raise UserError(f'{n} is bad', 'here', 'mend it')
    assert (said(read_all, 'numbers', range(5000), read) ==
            'here: 2 is bad · 1666 such of 5000 numbers (mend it)')
    assert (read_all('threes', range(0, 3000, 3), lambda n: read(n) or -n) ==
            [*range(0, -3000, -3)] and read_all('none', (), read) == [])


def test_an_archive_is_believed_up_to_a_limit(monkeypatch, server, root):
    toy_dogs(monkeypatch, server)
    for most, words in (((100, 100), 'images.tar: unpacks to more than 100 bytes'),
                        ((2 ** 20, 3), 'images.tar: has more than 3 files')):
        dogs = KNOWN_SETS['StanfordDogs']._replace(most=most)
        monkeypatch.setitem(KNOWN_SETS, 'StanfordDogs', dogs)
        assert (words in said(prepare_set, 'StanfordDogs', root) and
                not (root/'StanfordDogs'/'Images').exists())


def test_the_limits_leave_room_for_the_published_sets():
    files = {'CUB200': 5994 + 5794, 'StanfordDogs': 12000 + 8580, 'NMNIST': 60_000,
             'DVSCIFAR10': 1000, 'NCaltech101': 8709 + 435}
    unpacked = {'DVSCIFAR10': 16e9 / 10, 'NCaltech101': 5e9}
    for name, place in KNOWN_SETS.items():
        if not place.unpack: continue
        size, number = place.most
        assert number >= 2 * files.get(name, 10) and size > max(
            [2 * unpacked.get(name, 0), *(2 * (a.size or 0) for a in place.kind.about.archives)])
        assert all(a.size or a.most <= 1 << 33 for a in place.kind.about.archives)


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
    assert ('MD5 differs' in said(prepare_set, 'StanfordDogs', root) and
            'MD5 differs' in said(check_set, 'StanfordDogs', root))
    (root/'images.tar').write_bytes((root/'images.tar').read_bytes()[:-1])
    assert len(prepare_set('StanfordDogs', root)) == 2


def test_a_set_with_too_little_in_it_is_named(monkeypatch, server, root):
    toy_dogs(monkeypatch, server)
    monkeypatch.setattr(StanfordDogs, 'numbers', (5, 2, 2))
    assert '4 training images, not 5' in said(prepare_set, 'StanfordDogs', root)


def test_real_cifar_is_checked_pixel_by_pixel(real):
    lines = check_set('CIFAR10', real('cifar10'))
    assert ('50000 training and 10000 test images of 10 classes' in lines[0] and
            'every pixel' in lines[1])
    assert 'nothing to do' in prepare_set('CIFAR10', real('cifar10'))[0]


def bin_file(seed, n=60):
    "Events of a 34×34 sensor in the order of time."
    rng = np.random.default_rng(seed)
    t = np.sort(rng.integers(0, 2 ** 16, n))
    return np.stack([*rng.integers(0, 34, (2, n)), rng.integers(0, 2, n) << 7,
                     t >> 8, t & 255], 1).astype(np.uint8).tobytes()


def toy_nmnist(root):
    for part, n in (('Train', 3), ('Test', 2)):
        for digit in range(10):
            (root/'N-MNIST'/part/str(digit)).mkdir(parents=True)
            for i in range(n):
                (root/'N-MNIST'/part/str(digit)/f'{i:05}.bin').write_bytes(
                    bin_file(100 * digit + i))
    return root/'N-MNIST'


def test_frames_are_enough(root):
    home = toy_nmnist(root)
    for T in (10, 3): prepare_set('NMNIST', root, T)
    line, = prepare_set('NMNIST', root, 3, ['split_by=number', 'size=32'])
    assert (line.endswith('prepared/NMNIST-T3-32-number') and
            sets_table(root).there['NMNIST'] == f'{home} · frames for T = 3, 10')
    lines = check_set('NMNIST', root)
    assert 'their first events are at ' in lines[1] and ' ms, half of them before ' in lines[1]
    assert ('50 of 70,000 recordings' in lines[0] and 'all 50 can be read' in lines[1] and
            len(lines) == 5)
    assert all('as they were sealed' in l and '50 of 70,000' in l for l in lines[2:])
    shutil.rmtree(home)
    assert (dataset_path(NMNIST, root) == root/'prepared'/'NMNIST-T3-32-number' and
            '· frames for T = 3, 10' in sets_table(root).there['NMNIST'])
    assert len(check_set('NMNIST', root)) == 3 and 'nothing to do' in prepare_set('NMNIST', root)[0]
    assert prepare_set('NMNIST', root, 3, ['split_by=number', 'size=32']) == [line]
    assert 'Train.zip' in said(prepare_set, 'NMNIST', root, 4)              # these were not made
    with open(root/'prepared/NMNIST-T10-48-time/00000.npy', 'ab') as f: f.write(b'x')
    for act in (lambda: check_set('NMNIST', root), lambda: prepare_set('NMNIST', root, 10)):
        assert 'T10-48-time/00000.npy: changed' in said(act)


def test_settings_are_checked_before_anything_is_fetched(root, monkeypatch):
    monkeypatch.setattr(prepare, 'fetch', None)
    assert ('0 frames' in said(prepare_set, 'NMNIST', root, 0) and
            'choose 1 or more' in said(prepare_set, 'DVSCIFAR10', root, -2))
    assert "unknown key 'colour'" in said(prepare_set, 'DVSCIFAR10', root, 10, ['colour=red'])
    assert 'KEY=VALUE' in said(prepare_set, 'DVSCIFAR10', root, 10, ['size'])


def test_a_part_is_no_set(root):
    for c in ('airplane', 'automobile', 'bird', 'cat', 'deer', 'dog', 'frog', 'horse',
              'ship', 'truck'):
        (root/'CIFAR10-DVS'/c).mkdir(parents=True)
        for i in range(2 if c == 'cat' else 10):
            (root/'CIFAR10-DVS'/c/f'cifar10_{c}_{i}.aedat').write_bytes(
                b'#!AER-DAT2.0\r\n' + bytes(8))
    for act in (lambda: check_set('DVSCIFAR10', root), lambda: prepare_set('DVSCIFAR10', root, 10),
                lambda: DVSCIFAR10().load(root, 0, 10)):
        line = said(act)
        assert line == (f'{root}/CIFAR10-DVS: 92 of 10,000 recordings; cat has 2 of 1,000 (remove '
                        f'{root}/CIFAR10-DVS, then: snn-repro data prepare DVSCIFAR10 '
                        f'--root {root})')


def test_real_recordings_of_a_part_are_counted(real):
    lines = check_set('NMNIST', real('nmnist'))
    assert ('10 classes, 1,100 of 70,000 recordings' in lines[0] and
            'all 1100 can be read' in lines[1])
    assert dataset_path(NMNIST, real('nmnist')) == real('nmnist') and NMNIST.folders[-1] == '.'


def test_real_recordings_are_prepared_once(real, tmp_path):
    given = real('nmnist')
    home = tmp_path/'data'/'N-MNIST'
    for part in ('Train', 'Test'):
        for digit in range(10):
            to = home/part/str(digit)
            to.mkdir(parents=True)
            for file in sorted((given/part/str(digit)).glob('*.bin'))[:2]:
                (to/file.name).write_bytes(file.read_bytes())
    line, = prepare_set('NMNIST', tmp_path/'data', T=3)
    assert ('frames for 3 steps' in line and
            'all 40 can be read' in check_set('NMNIST', tmp_path/'data')[-2])
    assert prepare_set('NMNIST', tmp_path/'data', T=3) == [line]
    bad = next(home.rglob('*.bin'))
    bad.write_bytes(bad.read_bytes()[:7])
    assert bad.name in said(check_set, 'NMNIST', tmp_path/'data')
