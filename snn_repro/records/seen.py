"""The files of a data set as a run saw them: names, sizes and times, as ten digits."""
import hashlib, os
from pathlib import Path


def stamp_of(home: Path) -> str:
    "Ten digits for names, sizes and times of the file `home`, or of all files below it."
    h = hashlib.sha256()
    files = sorted(Path(f)/n for f, _, names in os.walk(home) for n in names)
    for file in [home] if home.is_file() else files:
        try: about = os.stat(file)
        except OSError: continue   # a link to nowhere, which is no part of the data either
        line = f'{file.relative_to(home)}\t{about.st_size}\t{about.st_mtime_ns}\n'
        h.update(line.encode('utf-8', 'surrogateescape'))
    return h.hexdigest()[:10]


def home_in(homes, root) -> Path | None:
    """The first of `homes` that is there below `root`: pairs of a file or folder, and what it must
    have in it. None where none is."""
    return next((Path(root)/f for f, sign in homes if (Path(root)/f/sign).exists()), None)
