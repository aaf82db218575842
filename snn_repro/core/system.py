"""What is asked about the surroundings, each question with a time limit.

Unknown (`None`) is an answer: no run is lost to a missing or hanging program, a user without a
name, a terminal that lacks letters, or what another job left in the environment.
"""
import getpass, os, shutil, signal, subprocess, sys, tempfile
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

PATIENCE = 5.0   # seconds that a program has for its answer
# git would look there, whatever folder is named
ELSEWHERE = ('GIT_DIR', 'GIT_WORK_TREE', 'GIT_INDEX_FILE', 'GIT_COMMON_DIR', 'GIT_OBJECT_DIRECTORY')
PLACE = ('RANK', 'LOCAL_RANK', 'WORLD_SIZE', 'MASTER_PORT')


def answer(command: list[str], patience: float = PATIENCE, env: dict | None = None) -> str | None:
    """What a program prints.
    None where there is no such program, where it fails, and where it has not ended after `patience`
    seconds: it and all that it started are killed then."""
    quiet = dict(stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try: asked = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, errors='replace',
                                  env=env, **quiet)
    except OSError: return None
    try: said = asked.communicate(timeout=patience)[0]
    except subprocess.TimeoutExpired: return None
    finally: _end(asked)
    return said.strip() if asked.returncode == 0 else None


def _end(process):
    if process.returncode is not None: return
    with suppress(OSError): os.killpg(process.pid, signal.SIGKILL)
    # what waits for a dead disk cannot even be killed
    with suppress(subprocess.TimeoutExpired): process.wait(1)
    process.stdout.close()


def commit_of(file: Path) -> tuple[str | None, bool | None]:
    """The commit of the checkout that a file belongs to, and whether its folder was changed since.
    None where git does not track this very file, or does not say."""
    env = {k: v for k, v in os.environ.items() if k not in ELSEWHERE} | {'GIT_OPTIONAL_LOCKS': '0'}
    def git(*words): return answer(['git', '-C', str(file.parent), *words], env=env)
    tracked = git('ls-files', '--error-unmatch', '--', file.name)
    commit = git('rev-parse', '--short=12', 'HEAD') if tracked else None
    changed = git('status', '--porcelain', '--', '.') if commit else None
    return commit or None, None if changed is None else bool(changed)


def place() -> tuple[int, int]:
    """(rank, size) of this process in the team that it was started in; (0, 1) if alone.
    A team's launcher sets five variables that fit each other: fewer are left over from somewhere
    else."""
    told = [os.environ.get(k, '') for k in PLACE]
    numbers = all(v.isascii() and v.isdecimal() and len(v) < 10 for v in told)
    if not (numbers and os.environ.get('MASTER_ADDR')): return 0, 1
    rank, local, size, _ = map(int, told)
    return (rank, size) if local <= rank < size else (0, 1)


def env_count(name: str, otherwise: int = 0) -> int:
    """The whole number in the environment variable `name`.
    `otherwise` where it is missing or no such number."""
    value = os.environ.get(name, '')
    return int(value) if value.isascii() and value.isdecimal() and len(value) < 10 else otherwise


def name_user():
    """Give a user without a name (as in containers) the user's number for one.
    In this process and those that it starts: torch asks for a name."""
    try: getpass.getuser()
    except (KeyError, OSError): os.environ['USER'] = str(os.getuid())


def speak_any_letter():
    "Print a question mark, or so, for a letter that the terminal's encoding lacks."
    if hasattr(sys.stdout, 'reconfigure'): sys.stdout.reconfigure(errors='replace')


def cache_folder() -> Path:
    """Where compiled code is kept: `snn_repro` in the user's cache.
    That is `$XDG_CACHE_HOME` or `~/.cache`; where that cannot be written, a folder that goes with
    this process."""
    named = os.environ.get('XDG_CACHE_HOME', '')
    try:
        folder = (Path(named) if os.path.isabs(named) else Path.home()/'.cache')/'snn_repro'
        if folder.is_absolute():
            folder.mkdir(parents=True, exist_ok=True)
            if os.access(folder, os.W_OK | os.X_OK): return folder
    except (OSError, RuntimeError): pass   # the home is a file, or nowhere
    return Path(_for_now().name)


@lru_cache(maxsize=None)
def _for_now() -> tempfile.TemporaryDirectory:
    return tempfile.TemporaryDirectory(prefix='snn-repro-')


def free_on(path) -> int:
    "The bytes that are free where `path` lies, or would lie."
    there = next(p for p in (Path(path).absolute(), *Path(path).absolute().parents) if p.exists())
    return shutil.disk_usage(there).free


def lines_of(path) -> list[str]:
    "The lines of a file that the system writes; none where it cannot be read."
    try: return Path(path).read_text(encoding='utf-8', errors='replace').splitlines()
    except OSError: return []


def version_of(package: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version
    try: return version(package)
    except PackageNotFoundError: return None
