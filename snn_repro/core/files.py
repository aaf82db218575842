"Files that are either whole or absent: atomic writes, hashes, a folder's seal and its lock."
import errno, hashlib, json, os, secrets, socket, threading, time
from contextlib import contextmanager, suppress
from pathlib import Path

from snn_repro.core.spec import UserError, check, shown
from snn_repro.core.system import env_count

SEAL, PART, LOCK, ERROR = 'done.json', '.part', 'lock', 'error.json'
LARGEST = 2**26   # bytes of JSON that are read: a stranger's file does not fill the memory
# seconds from one sign of life to the next, and without one until a lock on another host counts as
# left behind
BEAT, SILENT = 10, 300
FORBIDDEN, OCCUPIED = ('choose a folder you may write to',
                       'a file stands where a folder is needed: choose another folder')
REMEDIES = {errno.ENOSPC: 'free some space and start again: what was finished is kept',
            errno.EPERM: FORBIDDEN, errno.EACCES: FORBIDDEN,
            errno.EROFS: FORBIDDEN, errno.ENOTDIR: OCCUPIED, errno.EEXIST: OCCUPIED,
            errno.EISDIR: 'name a file'}


class Held(UserError):
    "Another process has this folder."


@contextmanager
def readable_errors(path, again: str = ''):
    "What the system says about a file, as one line for people; `again` where no remedy is known."
    try: yield
    except OSError as e:
        remedy = REMEDIES.get(e.errno, again)
        raise UserError((e.strerror or str(e)).lower(), str(e.filename or path), remedy) from e


@contextmanager
def readable(path, remedy: str = 'restore the file, or remove its folder to make it again'):
    """Whatever a damaged or mangled file makes its reader raise, as one line that names it. Pipes
    and devices, which may have no end, are not read."""
    try:
        with readable_errors(path):
            check(Path(path).is_file() or not Path(path).exists(), 'this is not a file')
            yield
    except UserError as e:
        if str(path) in e.where: raise
        raise UserError(e.what, str(path), e.remedy or remedy) from e
    # there is no end to what readers raise: a file of a stranger must not end a program in any of
    # these
    except Exception as e:
        said = f'{type(e).__name__}: {" ".join(str(e).split())[:120]}'
        if 'allow_pickle' in said: said = 'no array of numbers'   # NumPy's advice is not ours
        raise UserError(f'cannot be read ({said})', str(path), remedy) from e


def file_size(path, remedy: str = 'restore the file, or remove it') -> int:
    """The bytes of a file.
    Raises `UserError` if it is missing, is a folder, a pipe or a device, or is empty."""
    with readable(path, remedy):
        check(Path(path).exists(), 'no such file or directory', str(path), remedy)
        n = os.stat(path).st_size
        check(n, 'the file is empty', str(path), remedy)
        return n


def make_folder(path) -> Path:
    "The folder `path`, made if absent. Raises `UserError` where that cannot be."
    with readable_errors(path): Path(path).mkdir(parents=True, exist_ok=True)
    return Path(path)


@contextmanager
def no_empty_folder(path):
    "What is made of the path `path` meanwhile, and is still empty in the end, is removed again."
    made = [p for p in (Path(path), *Path(path).parents) if not p.exists()]
    try: yield
    finally:
        for p in made:
            with suppress(OSError): p.rmdir()   # which only empties


@contextmanager
def _beside(path: Path):
    """A file to write into beside `path`, which goes in the end. What the system says of it is said
    of `path`, which people know."""
    beside = path.with_name(f'{path.name}.{os.getpid()}{PART}')
    with readable_errors(path, FORBIDDEN):
        try: yield beside
        except OSError as e:
            e.filename = str(path)
            raise
        finally:
            with suppress(OSError): beside.unlink()


def write(path, content):
    """Text or bytes into `path`: written beside it, flushed to the disk, then renamed, so a reader
    never sees half a file."""
    path = Path(path)
    with _beside(path) as beside:
        with open(beside, 'wb') as f:
            f.write(content.encode() if isinstance(content, str) else content)
            f.flush()
            os.fsync(f.fileno())
        os.replace(beside, path)


def check_target(path):
    """Raise `UserError` unless a file `path` can be written: to be asked before the work that it is
    for. Nothing is left behind."""
    path = Path(path)
    check(not path.is_dir(), 'this is a folder', str(path), 'name a file')
    with no_empty_folder(path.parent):
        make_folder(path.parent)
        with _beside(path) as beside: beside.touch()


def write_json(path, data): write(path, json.dumps(data, indent=1) + '\n')


def read_bytes(path) -> bytes:
    "The content of a file of at most `LARGEST` bytes. Raises `UserError`."
    with readable(path), open(path, 'rb') as f:
        content = f.read(LARGEST + 1)
        check(len(content) <= LARGEST, f'this is larger than {LARGEST >> 20} MB')
        return content


def read_json(path):
    """The JSON in `path`. Raises `UserError` if it is missing, is not a file of at most `LARGEST`
    bytes, or is not JSON."""
    with readable(path):
        text = read_bytes(path)
        try: return json.loads(text)
        except (ValueError, RecursionError) as e: raise UserError(f'this is not JSON ({e})') from e


def sha256(path) -> str:
    "The SHA-256 of a file, in hexadecimal."
    with readable_errors(path), open(path, 'rb') as f:
        return hashlib.file_digest(f, 'sha256').hexdigest()


def inside(name: str) -> bool:
    "Whether `name`, read from a file, is that of an entry of its folder, and no way out of it."
    return Path(name).name == name and name not in ('', '..') and len(name) < 200


def seal(folder, schema: int):
    """Write `done.json` with the hash of every file in `folder`: from now on the folder counts as
    finished."""
    folder = Path(folder)
    files = sorted(p.name for p in folder.iterdir()
                   if p.is_file() and p.name not in (SEAL, LOCK, ERROR) and p.suffix != PART)
    write_json(folder/SEAL, {'schema': schema, 'sha256': {f: sha256(folder/f) for f in files}})
    # its entries too are on the disk before anybody relies on the seal
    with readable_errors(folder):
        entries = os.open(folder, os.O_RDONLY)
        try: os.fsync(entries)
        finally: os.close(entries)


def sealed(folder, schema: int) -> bool:
    """Whether `folder` is finished. Raises `UserError` if it was written in another schema, or if a
    file differs from its hash or is missing: such a folder is never read and never overwritten
    without being told."""
    folder = Path(folder)
    if not (folder/SEAL).exists(): return False
    done = read_json(folder/SEAL)
    remedy = 'move or remove this folder, and it is made again'
    check(isinstance(done, dict) and isinstance(done.get('sha256'), dict), 'the seal is damaged',
          str(folder/SEAL), remedy)
    found = shown(done.get('schema'))
    check(done.get('schema') == schema, f'written in schema {found}, this version reads {schema}',
          str(folder), remedy)
    for name, digest in done['sha256'].items():
        check(inside(name), f'the seal names a file elsewhere: {shown(name)}',
              str(folder/SEAL), remedy)
        with readable_errors(folder/name):
            there, link = (folder/name).is_file(), (folder/name).is_symlink()
        check(not link, 'a link to somewhere else', str(folder/name), remedy)
        check(there, 'missing, though the seal lists it', str(folder/name), remedy)
        check(sha256(folder/name) == digest,
              'changed since the run was finished (its hash differs)', str(folder/name), remedy)
    return True


@contextmanager
def locked(folder):
    """Hold the run folder `folder` alone. Raises `Held` if another process has it; a lock whose
    process is gone is taken over.

    The lock is a file made by exclusive creation, so it holds on a shared file system; its time is
    renewed as a sign of life. A process that was silent for too long (suspended, say) may have lost
    it: it gets a function that raises `Held` then, to be called before it writes."""
    path, me = Path(folder)/LOCK, _me() | {'token': secrets.token_hex(8)}
    with readable_errors(path):
        _remove_if_left_behind(path)
        try:
            with open(path, 'x') as f: json.dump(me, f)
        except FileExistsError:
            raise Held(f'another process is at this run ({_holder(path)})', str(folder),
                       'wait for it, or stop it') from None
    stop = threading.Event()
    def ours() -> bool:
        with suppress(OSError, ValueError): return json.loads(path.read_bytes()) == me
        return False
    def still():
        if path.exists() and not ours():
            raise Held(f'it was taken over after {SILENT} s without a sign of life '
                       f'({_holder(path)})', str(folder), 'leave it to that process')
    def beat():
        while not stop.wait(BEAT):
            with suppress(OSError): ours() and os.utime(path)
    threading.Thread(target=beat, daemon=True).start()
    try: yield still
    finally:
        stop.set()
        with suppress(OSError):
            # where a disk has become read-only, another run sees that we are gone
            ours() and path.unlink()


def held(folder) -> bool:
    "Whether a living process has the run folder `folder`."
    path = Path(folder)/LOCK
    return path.exists() and not _left_behind(path)


def _me() -> dict:
    """Who holds a lock: a process on a host, and the SLURM job it belongs to (how often that one
    was started again)."""
    job = {}
    if 'SLURM_JOB_ID' in os.environ:
        job = {'job': os.environ['SLURM_JOB_ID'], 'restarts': env_count('SLURM_RESTART_COUNT')}
    # containers may share a host's name, not its processes
    try: space = os.readlink('/proc/self/ns/pid')
    except OSError: space = ''
    return {'host': socket.gethostname(), 'space': space, 'pid': os.getpid()} | job


def _holder(path: Path) -> str:
    try: return 'process {} on {}'.format(*(str(read_json(path)[k])[:80] for k in ('pid', 'host')))
    except (UserError, KeyError, TypeError): return 'it has just begun'


def _remove_if_left_behind(path: Path):
    """Of several processes that see a lock without a holder, one removes it.
    A lock that another made meanwhile is put back. Silence alone may be a clock that was set: only
    a lock that gives no sign of life while we watch is removed for it."""
    if not path.is_file(): return
    if not (_gone(path) or _silent(path) and _silent_for(path, 1.5*BEAT)): return
    aside = path.with_name(f'{LOCK}.{socket.gethostname()}.{os.getpid()}{PART}')
    try: os.rename(path, aside)
    except FileNotFoundError: return
    if _left_behind(aside) or path.exists(): aside.unlink()
    else: os.rename(aside, path)


def _left_behind(path: Path) -> bool: return path.is_file() and (_gone(path) or _silent(path))


def _gone(path: Path) -> bool:
    "Whether the process of a lock is known to be gone: one of this host, or of this SLURM job."
    try: holder = read_json(path)
    except UserError: return False
    if not isinstance(holder, dict): return False
    me = _me()
    if 'job' in me and holder.get('job') == me['job'] and holder.get('restarts') != me['restarts']:
        return True
    here = (holder.get('host'), holder.get('space', me['space'])) == (me['host'], me['space'])
    with suppress(PermissionError, KeyError, TypeError, OverflowError):
        return here and _ended(holder['pid'])
    return False


def _silent(path: Path) -> bool:
    "Whether a lock's last sign of life is too far from now, by this machine's clock."
    try: return abs(time.time() - path.stat().st_mtime) > SILENT
    except FileNotFoundError: return False


def _silent_for(path: Path, seconds: float) -> bool:
    "Whether a lock gives no sign of life while so many seconds pass."
    try:
        before = path.stat().st_mtime_ns
        time.sleep(seconds)
        return path.stat().st_mtime_ns == before
    except FileNotFoundError: return False


def _ended(pid: int) -> bool:
    "Whether there is no such process here, or only what its parent has not asked about yet."
    try: os.kill(pid, 0)
    except ProcessLookupError: return True
    with suppress(OSError, IndexError):
        return Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0] == 'Z'
    return False
