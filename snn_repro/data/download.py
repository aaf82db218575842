"""Published archives: what a data set is made of, where it comes from, and getting it safely onto
the disk.

Nothing that a stranger's file says is believed: a download counts by its published checksum, an
archive's members by the bytes that come out of it. What is fetched or unpacked is whole or absent.
"""
import gzip, hashlib, http.client, lzma, math, os, shutil, tarfile, time, zipfile, zlib
import urllib.error, urllib.parse, urllib.request
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from tqdm import tqdm

from snn_repro.core.files import PART, make_folder, readable_errors
from snn_repro.core.spec import UserError, check

BLOCK = 1 << 20
# a mirror that sends fewer bytes a second over so many seconds gives way to the next
PATIENCE, SLOW = 30, 200_000
DAMAGE = (tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, EOFError, zlib.error,
          lzma.LZMAError, NotImplementedError, RuntimeError, ValueError)


class Archive(NamedTuple):
    """A published file: its name, its published MD5 (or None), its size in bytes (or None), and
    where copies of it lie. `most`: the bytes that a download may have where no size is
    published."""
    name: str
    md5: str | None = None
    size: int | None = None
    urls: tuple[str, ...] = ()
    most: int = 1 << 33


class About(NamedTuple):
    """Where a data set comes from, under which licence, how large it is, its archives, and what
    must lie under the root folder."""
    title: str
    origin: str
    licence: str
    size: str
    archives: tuple[Archive, ...]
    place: str


def md5(path) -> str:
    """The MD5 of a file, in hexadecimal. It tells damage and mix-ups, not malice; it is what the
    authors of data sets publish."""
    with readable_errors(path), open(path, 'rb') as f:
        return hashlib.file_digest(f, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def fetch(archive: Archive, folder) -> Path:
    """The archive in `folder`, downloaded from the first of its `urls` that delivers the published
    bytes.

    The bytes go into a `.part` file that a later call, or the next mirror, continues; it gets its
    name once its sum is right. A slow mirror is left while there are others, and tried again after
    them. Raises `UserError` when no mirror delivers (more than the published size, or than `most`,
    is not taken), when no checksum is published, or when the file there is another one.
    """
    target = Path(folder)/archive.name
    by_hand = (
        f'download it by hand{f" from {archive.urls[0]}" if archive.urls else ""} and put it there')
    if target.exists():
        check(archive.md5 is None or md5(target) == archive.md5,
              'is not the published file (its MD5 differs)', str(target),
              'move or remove it, and it is fetched')
        return target
    check(archive.urls and archive.md5, 'has no address and published checksum to be fetched by',
          str(target), by_hand)
    part, failures = target.with_name(target.name + PART), []
    make_folder(folder)
    mirrors = [(url, PATIENCE) for url in archive.urls[:-1]] + [(archive.urls[-1], math.inf)]
    for url, patience in mirrors:
        try:
            resumed = _download(url, part, archive, patience)
            if resumed and md5(part) != archive.md5:   # the beginning may be another mirror's
                part.unlink()
                _download(url, part, archive, patience)
            if md5(part) == archive.md5:
                with readable_errors(target): os.replace(part, target)
                return target
            part.unlink()
            reason = 'its MD5 is wrong'
        except _Slow as e:
            reason = str(e)
            mirrors.append((url, math.inf))
        except (OSError, http.client.HTTPException) as e:
            reason = str(getattr(e, 'reason', e)).lower() or type(e).__name__
        failures.append(f'{urllib.parse.urlparse(url).netloc}: {reason}')
    raise UserError(f'could not be fetched ({"; ".join(failures)})', str(target), by_hand)


class _Slow(OSError): pass
class _TooLarge(OSError): pass


def _download(url: str, part: Path, archive: Archive, patience: float) -> bool:
    """Bytes of `url` into `part`, behind those it has if the server can do that; whether it could.
    Raises `OSError` when the server fails, `_Slow` when it is, over `patience` seconds, and
    `_TooLarge` before a byte too many is kept: then `part` is removed."""
    try: return _receive(url, part, archive, patience)
    except _TooLarge:
        part.unlink(missing_ok=True)
        raise


def _receive(url: str, part: Path, archive: Archive, patience: float) -> bool:
    have = part.stat().st_size if part.exists() else 0
    ask = {'User-Agent': 'snn-repro'} | ({'Range': f'bytes={have}-'} if have else {})
    try: answer = urllib.request.urlopen(urllib.request.Request(url, headers=ask), timeout=30)
    except urllib.error.HTTPError as e:
        if e.code != 416 or not have: raise
        part.unlink()   # nothing comes after what is there
        return _receive(url, part, archive, patience)
    with answer:
        resumed = (bool(have) and answer.status == 206
                   and answer.headers.get('Content-Range', '').startswith(f'bytes {have}-'))
        start = have if resumed else 0
        length = answer.headers.get('Content-Length', '')
        total = start + int(length) if length.isdigit() else archive.size
        most, said = ((archive.size, 'the published size') if archive.size
                      else (archive.most, f'{archive.most} bytes'))
        if total and total > most: raise _TooLarge(f'it sends more than {said}')
        with readable_errors(part): out = open(part, 'ab' if resumed else 'wb')
        with out, tqdm(desc=archive.name, initial=start, total=total, unit='B', unit_scale=True,
                       disable=None) as bar:
            since, at, then = time.monotonic(), start, start
            while block := answer.read1(BLOCK):   # what has come, be it little
                at += len(block)
                if at > most: raise _TooLarge(f'it sends more than {said}')
                with readable_errors(part): out.write(block)
                bar.update(len(block))
                if (seconds := time.monotonic() - since) < patience: continue
                if at - then < SLOW * seconds:
                    raise _Slow(f'it sends {(at - then) / seconds / 1000:.0f} kB a second')
                since, then = time.monotonic(), at
    if total and at < total: raise OSError(f'the connection ended after {at} of {total} bytes')
    return resumed


class _Member(NamedTuple):
    name: str
    is_folder: bool
    size: int
    open: object


def _tar_members(tar: tarfile.TarFile, beside: Path):
    for m in tar:
        # absolute names, names that lead outside, devices: FilterError
        tarfile.data_filter(m, str(beside))
        if not (m.isreg() or m.isdir()): raise tarfile.TarError(f'{m.name!r} is a link')
        yield _Member(m.name, m.isdir(), m.size, lambda: tar.extractfile(m))
    for _ in range(1024):   # to the end of the packed file, where its own checksum is compared
        if not tar.fileobj.read(BLOCK): break


def _zip_members(file: zipfile.ZipFile):
    for m in file.infolist():
        # the file type of Unix, 0 where the archive was made elsewhere
        kind = m.external_attr >> 28
        if kind not in (0, 4, 8): raise zipfile.BadZipFile(f'{m.filename!r} is a link or a device')
        yield _Member(m.filename, m.is_dir(), m.file_size, lambda: file.open(m))


def _made(path: Path, is_folder: bool):
    "The folder, or the file, open to be written."
    (path if is_folder else path.parent).mkdir(parents=True, exist_ok=True)
    return None if is_folder else open(path, 'xb')


def _unpack(members, beside: Path, archive: Path, max_bytes: int, max_files: int):
    "Write the members under `beside`, counting what really comes out."
    written, remedy = 0, 'do not use it: it is not what a data set looks like'
    for n, m in enumerate(tqdm(members, desc=archive.name, unit=' files', disable=None)):
        path = PurePosixPath(m.name)
        check(not path.is_absolute() and '..' not in path.parts and '\\' not in m.name
              and ':' not in m.name,
              f'member {m.name!r} leads outside the folder', str(archive), remedy)
        check(n < max_files, f'has more than {max_files} files', str(archive), remedy)
        check(written + m.size <= max_bytes, f'unpacks to more than {max_bytes} bytes',
              str(archive), remedy)
        try: out = _made(beside/path, m.is_folder)
        except (FileExistsError, NotADirectoryError) as e:
            raise ValueError(f'{m.name!r} comes twice, or as file and folder') from e
        if out:
            with out, m.open() as source:
                while block := source.read(BLOCK):
                    written += len(block)
                    check(written <= max_bytes, f'unpacks to more than {max_bytes} bytes',
                          str(archive), remedy)
                    out.write(block)


@contextmanager
def _damage(archive: Path):
    "Whatever a broken or lying archive makes the readers raise, as one line."
    try: yield
    except DAMAGE as e:
        reason = (str(e) or type(e).__name__).splitlines()[0].rstrip(':')
        raise UserError(f'is damaged, cut short or not to be trusted ({reason})', str(archive),
                        'remove it and fetch it again') from e


def extract(archive, folder, inner: str = '', max_bytes: int = 1 << 38,
            max_files: int = 2_000_000) -> Path:
    """The contents of a .tar(.gz, .bz2, .xz) or .zip as `folder`; of `inner`, only what the archive
    has in that folder.

    Unpacked beside it and then renamed, so `folder` is whole or absent; where it is there, nothing
    is done. Raises `UserError` for an archive that is damaged or cut short, has links, devices or
    names that lead outside, or exceeds the limits.
    """
    archive, folder = Path(archive), Path(folder)
    if folder.exists(): return folder
    beside = folder.with_name(folder.name + PART)
    shutil.rmtree(beside, ignore_errors=True)   # what an interrupted call left
    with readable_errors(archive), open(archive, 'rb'): pass
    make_folder(beside)
    try:
        with readable_errors(beside), _damage(archive):
            if zipfile.is_zipfile(archive):
                with zipfile.ZipFile(archive) as f:
                    _unpack(_zip_members(f), beside, archive, max_bytes, max_files)
            else:
                with tarfile.open(archive) as f:
                    _unpack(_tar_members(f, beside), beside, archive, max_bytes, max_files)
            check((beside/inner).is_dir(), f'has no folder {inner!r}', str(archive),
                  'is it the right archive?')
            os.replace(beside/inner, folder)
    finally: shutil.rmtree(beside, ignore_errors=True)
    return folder
