"The site: `python nbs/_site/build.py [FOLDER]` writes it into `_docs/` or FOLDER."
import shutil, sys
from pathlib import Path

from sphinx.cmd.build import main as sphinx

from api import write_api
from chapters import write_chapters
from house import CFG, root


def build(to: Path) -> int:
    "0 if the site in `to`/html has all its links; every warning is an error."
    pages = to/'source'
    shutil.rmtree(pages, ignore_errors=True)
    write_chapters(pages)
    write_api(pages)
    return sphinx(['-b', 'html', '-q', '-n', '-W', '--keep-going', '-c', str(Path(__file__).parent),
                   '-d', str(to/'cache'), str(pages), str(to/'html')])


if __name__ == '__main__':
    to = Path(sys.argv[1]) if len(sys.argv) > 1 else root/CFG['doc_path']
    failed = build(to)
    print('see the warnings above' if failed else to/'html/index.html')
    sys.exit(failed)
