"""Published archives: what a data set is made of, where it comes from, and getting it safely onto the disk."""
from typing import NamedTuple


class Archive(NamedTuple):
    "A published file: its name, the MD5 its authors or torchvision publish (or None), its size in bytes (or None), and where copies lie."
    name: str
    md5: str | None = None
    size: int | None = None
    urls: tuple[str, ...] = ()


class About(NamedTuple):
    "Where a data set comes from, under which licence, how large it is, its archives, and what must lie under the root folder."
    title: str
    origin: str
    licence: str
    size: str
    archives: tuple[Archive, ...]
    place: str
