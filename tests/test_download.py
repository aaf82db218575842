"Downloads from good, broken and lying mirrors; archives that mean harm."
import errno, gzip, hashlib, http.server, io, random, re, stat, tarfile, threading, time, zipfile

import pytest

from snn_repro.core.files import REMEDIES
from snn_repro.core.spec import UserError
from snn_repro.data import download
from snn_repro.data.download import Archive, extract, fetch

CONTENT = bytes(range(256)) * 4000
MD5 = hashlib.md5(CONTENT).hexdigest()


class Mirror(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append((self.path, self.headers.get('Range')))
        begin, body, code = 0, CONTENT, 200
        if self.path == '/gone': return self.send_error(404)
        if self.path == '/wrong': body = b'x' * len(CONTENT)
        if self.path in ('/ranges', '/slow') and (r := self.headers.get('Range')):
            begin, code = int(r.removeprefix('bytes=').rstrip('-')), 206
            if begin >= len(body): return self.send_error(416)
        self.send_response(code)
        if self.path != '/endless': self.send_header('Content-Length', str(len(body) - begin))
        if code == 206:
            self.send_header('Content-Range', f'bytes {begin}-{len(body) - 1}/{len(body)}')
        self.end_headers()
        try:
            if self.path == '/slow': self.dribble(body[begin:])
            else:
                self.wfile.write(body[begin:len(body) // 2] if self.path == '/cut'
                                 else body[begin:])
            while self.path == '/endless': self.wfile.write(body)
        except OSError: self.close_connection = True   # the other side has had enough

    def dribble(self, body):
        for i in range(0, len(body), 16_000):
            self.wfile.write(body[i:i + 16_000])
            time.sleep(.02)

    def log_message(self, *args): pass


@pytest.fixture
def mirror():
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Mirror)
    server.asked = []
    threading.Thread(target=server.serve_forever, args=(.02,), daemon=True).start()
    server.at = lambda *paths: tuple(f'http://127.0.0.1:{server.server_port}/{p}' for p in paths)
    yield server
    server.shutdown()
    server.server_close()


def said(f, *args, **kw):
    with pytest.raises(UserError) as e: f(*args, **kw)
    assert '\n' not in str(e.value)
    return str(e.value)


def test_a_broken_mirror_gives_way_to_a_good_one(mirror, tmp_path):
    path = fetch(Archive('a.bin', MD5, len(CONTENT), mirror.at('gone', 'wrong', 'good')),
                 tmp_path/'new')
    assert path.read_bytes() == CONTENT and [p.name for p in path.parent.iterdir()] == ['a.bin']
    asked = len(mirror.asked)
    assert (fetch(Archive('a.bin', MD5, len(CONTENT), mirror.at('good')), tmp_path/'new') ==
            path and len(mirror.asked) == asked)


def test_a_cut_download_goes_on_where_it_ended(mirror, tmp_path):
    assert 'ended after 512000 of 1024000 bytes' in said(
        fetch, Archive('a.bin', MD5, None, mirror.at('cut')), tmp_path)
    assert ((tmp_path/'a.bin.part').stat().st_size == len(CONTENT) // 2 and
            not (tmp_path/'a.bin').exists())
    assert fetch(Archive('a.bin', MD5, None, mirror.at('ranges')), tmp_path).read_bytes() == CONTENT
    assert mirror.asked[-1] == ('/ranges', 'bytes=512000-')


@pytest.mark.parametrize('left, path', [(b'x' * 1000, 'ranges'), (CONTENT + b'x', 'ranges'),
                                        (CONTENT[:1000], 'good')])
def test_a_false_or_useless_beginning_is_dropped(mirror, tmp_path, left, path):
    (tmp_path/'a.bin.part').write_bytes(left)
    assert fetch(Archive('a.bin', MD5, None, mirror.at(path)), tmp_path).read_bytes() == CONTENT


def test_when_no_mirror_delivers_one_line_says_what_to_do(mirror, tmp_path):
    line = said(fetch, Archive('a.bin', MD5, None,
                               (*mirror.at('wrong', 'gone'), 'http://127.0.0.1:9/a.bin')), tmp_path)
    assert ('MD5 is wrong' in line and 'not found' in line and 'refused' in line and
            'by hand from http' in line and str(tmp_path) in line)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('archive, path, words', [
    (Archive('a.bin', MD5, 1000), 'good', 'more than the published size'),
    (Archive('a.bin', MD5, 1000), 'endless', 'more than the published size'),
    (Archive('a.bin', MD5, most=2000), 'good', 'more than 2000 bytes'),
    (Archive('a.bin', MD5, most=3_000_000), 'endless', 'more than 3000000 bytes')])
@pytest.mark.parametrize('left', [b'', CONTENT[:700]])
def test_more_than_the_limit_is_not_taken_and_not_kept(mirror, tmp_path, archive, path,
                                                       words, left):
    if left: (tmp_path/'a.bin.part').write_bytes(left)
    assert words in said(fetch, archive._replace(urls=mirror.at(path)), tmp_path)
    assert not list(tmp_path.iterdir())
    assert fetch(archive._replace(size=len(CONTENT),
                                  urls=mirror.at(path, 'good')), tmp_path).read_bytes() == CONTENT


def test_without_a_published_size_there_is_a_limit(): assert 0 < Archive('a.bin').most <= 1 << 33


def test_a_slow_mirror_gives_way_and_what_it_sent_is_kept(mirror, tmp_path, monkeypatch):
    assert (download.PATIENCE, download.SLOW) == (30, 200_000)
    monkeypatch.setattr(download, 'PATIENCE', .15)
    monkeypatch.setattr(download, 'SLOW', 10 ** 7)
    assert fetch(Archive('a.bin', MD5, None,
                         mirror.at('slow', 'ranges')), tmp_path).read_bytes() == CONTENT
    assert ([p for p, _ in mirror.asked] == ['/slow', '/ranges'] and
            0 < int(mirror.asked[1][1][6:-1]) < len(CONTENT))


def test_a_slow_mirror_is_better_than_none(mirror, tmp_path, monkeypatch):
    monkeypatch.setattr(download, 'PATIENCE', .15)
    monkeypatch.setattr(download, 'SLOW', 10 ** 7)
    assert fetch(Archive('a.bin', MD5, None, mirror.at('slow', 'gone')),
                 tmp_path/'a').read_bytes() == CONTENT
    assert [p for p, _ in mirror.asked] == ['/slow', '/gone', '/slow'] and mirror.asked[2][1]
    mirror.asked.clear()
    assert (fetch(Archive('a.bin', MD5, None, mirror.at('slow')), tmp_path/'b').read_bytes() ==
            CONTENT and len(mirror.asked) == 1)


def test_without_a_published_sum_nothing_is_fetched(mirror, tmp_path):
    assert ('by hand' in said(fetch, Archive('a.bin', None, None, mirror.at('good')), tmp_path) and
            not mirror.asked)


def test_a_file_of_that_name_with_other_bytes_is_left_alone(mirror, tmp_path):
    (tmp_path/'a.bin').write_bytes(b'mine')
    assert 'MD5 differs' in said(fetch, Archive('a.bin', MD5, None, mirror.at('good')), tmp_path)
    assert (tmp_path/'a.bin').read_bytes() == b'mine'


def tar(path, *members, mode='w:gz'):
    "An archive of (name, bytes or a changed TarInfo)."
    with tarfile.open(path, mode) as t:
        for name, content in members:
            info = tarfile.TarInfo(name)
            if callable(content): content(info); t.addfile(info)
            else: info.size = len(content); t.addfile(info, io.BytesIO(content))
    return path


def zipped(path, *members):
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as z:
        for name, content in members: z.writestr(name, content)
    return path


def link(kind, target):
    def change(info): info.type, info.linkname = kind, target
    return change


@pytest.mark.parametrize('make, name', [(tar, 'a.tar.gz'), (zipped, 'a.zip')])
def test_a_good_archive_is_unpacked_once(tmp_path, make, name):
    a = make(tmp_path/name, ('set/one/1.bin', b'1'), ('set/two/2.bin', b'22'),
             ('readme.txt', b'hi'))
    whole = extract(a, tmp_path/'whole')
    assert (whole/'set/two/2.bin').read_bytes() == b'22' and (whole/'readme.txt').exists()
    inner = extract(a, tmp_path/'set', inner='set')
    assert (sorted(p.name for p in inner.rglob('*.bin')) == ['1.bin', '2.bin'] and
            not (inner/'readme.txt').exists())
    (inner/'mine').touch()
    extract(a, tmp_path/'set', inner='set')
    assert (inner/'mine').exists() and not list(tmp_path.glob('*.part'))


OUTSIDE = 'leads outside|outside the destination'
HOSTILE = {
    'parent': (lambda p: tar(p/'a.tar', ('../evil', b'x'), mode='w'), OUTSIDE),
    'absolute': (lambda p: tar(p/'a.tar', (f'{p.parent}/evil', b'x'), mode='w'), OUTSIDE),
    'symlink': (lambda p: tar(p/'a.tar', ('l', link(tarfile.SYMTYPE, f'{p.parent}')),
                              ('l/evil', b'x'), mode='w'), 'link'),
    'inner symlink': (lambda p: tar(p/'a.tar', ('f', b''),
                                    ('l', link(tarfile.SYMTYPE, 'f')), mode='w'), "'l' is a link"),
    'hard link': (lambda p: tar(p/'a.tar', ('f', b''), ('l', link(tarfile.LNKTYPE, 'f')), mode='w'),
                  "'l' is a link"),
    'device': (lambda p: tar(p/'a.tar', ('d', link(tarfile.CHRTYPE, '')), mode='w'),
               'special file'),
    'pipe': (lambda p: tar(p/'a.tar', ('d', link(tarfile.FIFOTYPE, '')), mode='w'), 'special file'),
    'zip parent': (lambda p: zipped(p/'a.zip', ('a/../../evil', b'x')), OUTSIDE),
    'zip absolute': (lambda p: zipped(p/'a.zip', (f'{p.parent}/evil', b'x')), OUTSIDE),
    'zip backslash': (lambda p: zipped(p/'a.zip', ('..\\evil', b'x')), OUTSIDE),
    'zip drive': (lambda p: zipped(p/'a.zip', ('C:evil', b'x')), OUTSIDE)}


@pytest.mark.parametrize('kind', HOSTILE)
def test_nothing_leaves_the_folder(tmp_path, kind):
    (tmp_path/'in').mkdir()
    make, words = HOSTILE[kind]
    line = said(extract, make(tmp_path/'in'), tmp_path/'in'/'out')
    assert 'in/a.' in line and re.search(words, line), line
    assert sorted(p.name for p in tmp_path.rglob('*')) in (['a.tar', 'in'], ['a.zip', 'in'])


@pytest.mark.parametrize('members', [[('a', b'1'), ('a', b'2')], [('a', b''), ('a/b', b'')],
                                     [('a/b', b''), ('a', b'')]])
@pytest.mark.parametrize('make, name', [(tar, 'a.tar.gz'), (zipped, 'a.zip')])
@pytest.mark.filterwarnings('ignore:Duplicate name')
def test_a_name_that_comes_twice_is_damage(tmp_path, make, name, members):
    line = said(extract, make(tmp_path/name, *members), tmp_path/'out')
    assert ('comes twice' in line and name in line and 'remove it and fetch it again' in line and
            'another folder' not in line)
    assert not (tmp_path/'out').exists() and not list(tmp_path.glob('*.part'))


def test_remedies_name_no_option():
    "`run` has --out and `data` has --root; both show these words."
    assert (not [r for r in REMEDIES.values() if '--' in r] and
            'choose another folder' in REMEDIES[errno.EEXIST])
    assert REMEDIES[errno.EACCES] == 'choose a folder you may write to'


def test_a_link_in_a_zip_is_refused(tmp_path):
    info = zipfile.ZipInfo('l')
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    assert 'link' in said(extract, zipped(tmp_path/'a.zip', (info, '/etc/passwd')), tmp_path/'out')


@pytest.mark.parametrize('make, name', [(tar, 'a.tar.gz'), (zipped, 'a.zip')])
def test_bombs_stop_at_the_limits(tmp_path, make, name):
    many = make(tmp_path/f'many-{name}', *((f'{i}', b'') for i in range(50)))
    assert 'more than 20 files' in said(extract, many, tmp_path/'out', max_files=20)
    large = make(tmp_path/f'large-{name}', *((f'{i}', bytes(100_000)) for i in range(50)))
    assert 'more than 1000000 bytes' in said(extract, large, tmp_path/'out', max_bytes=1_000_000)
    assert not (tmp_path/'out').exists()
    extract(large, tmp_path/'out', max_bytes=5_000_000, max_files=50)


def test_a_zip_that_lies_about_its_sizes_is_stopped(tmp_path):
    a = zipped(tmp_path/'a.zip', ('f', bytes(3_000_000)))
    real, false = (3_000_000).to_bytes(4, 'little'), (10).to_bytes(4, 'little')
    a.write_bytes(a.read_bytes().replace(real, false))
    said(extract, a, tmp_path/'out', max_bytes=1_000_000)
    assert not (tmp_path/'out').exists()


def test_damage_is_told_in_one_line(tmp_path):
    good = tar(tmp_path/'a.tar.gz',
               *((f'{i}', random.Random(i).randbytes(9999)) for i in range(20)))
    for name, content in (('cut.tar.gz', good.read_bytes()[:-5000]),
                          ('cut.tar', gzip.decompress(good.read_bytes())[:100_000]),
                          ('text.tar', b'not an archive'), ('empty.zip', b''),
                          ('cut.zip', zipped(tmp_path/'a.zip', ('f', CONTENT)).read_bytes()[:-30]),
                          ('flipped.tar.gz',
                           good.read_bytes()[:3000] + b'\0\1\2\3' * 9 + good.read_bytes()[3036:])):
        (tmp_path/name).write_bytes(content)
        line = said(extract, tmp_path/name, tmp_path/'out')
        assert name in line and 'fetch it again' in line, line
        assert not (tmp_path/'out').exists()
    assert 'no such file' in said(extract, tmp_path/'absent.tar', tmp_path/'out')
    assert "no folder 'set'" in said(extract, good, tmp_path/'out', inner='set')


def test_an_interrupted_extraction_is_begun_again(tmp_path):
    (tmp_path/'out.part'/'old').mkdir(parents=True)
    out = extract(tar(tmp_path/'a.tar.gz', ('f', b'1')), tmp_path/'out')
    assert [p.name for p in out.iterdir()] == ['f']
