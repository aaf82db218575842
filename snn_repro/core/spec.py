"""Settings as frozen dataclasses: to JSON and back, a key, variants, what differs.

A part of an experiment (data set, net, objective, recipe, the experiment itself) is a frozen,
keyword-only dataclass derived from `Spec`. Its fields are numbers, strings, booleans, `None`,
other specs, or tuples of these. That is all an experiment is, so it can be printed, hashed,
compared and read back, and a configuration file is data, never code.
"""
import dataclasses, hashlib, json, math, re, reprlib, sys, types, typing
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Self


class UserError(Exception):
    "A mistake that a person can mend: what is wrong, where, and the remedy, in one line."
    def __init__(self, what: str, where: str = '', remedy: str = ''):
        self.what, self.where, self.remedy = what, where, remedy
        super().__init__(what, where, remedy)

    def __str__(self):
        said = ''.join([f'{self.where}: ' if self.where else '', self.what,
                        f' ({self.remedy})' if self.remedy else ''])
        # one line, whatever a file's name or content is
        return ''.join(c if c.isprintable() else c.encode('unicode_escape').decode() for c in said)


def check(ok: Any, what: str, where: str = '', remedy: str = '') -> None:
    "Raise `UserError` unless `ok`."
    if not ok: raise UserError(what, where, remedy)


_short = reprlib.Repr()
_short.maxlevel, _short.maxstring, _short.maxlong, _short.maxother = 2, 80, 40, 80

def shown(v: Any) -> str:
    "A value that came from a file, in a few words for a message."
    return _short.repr(v)


def content(v: Any) -> Any:
    "What an array of one has in it, up to nine arrays deep; anything else as it is."
    for _ in range(9):
        if getattr(v, 'size', 0) == 1 and hasattr(v, 'item'): v = v.item()
    return v


def whole(v: Any, where: str, remedy: str = '') -> int:
    """The whole number that stood in a file: digits as text, a number, or an array of one.
    It is below 2⁵³. Raises `UserError` with the place, `where`, and with what stood there."""
    one = content(v)
    if isinstance(one, str) and re.fullmatch('[+-]?[0-9]{1,16}', one.strip()): one = int(one)
    if isinstance(one, float) and one.is_integer(): one = int(one)
    said = 'nothing' if getattr(v, 'size', 1) == 0 else shown(one)
    check(type(one) is int and abs(one) < 2**53, f'not a whole number: {said}', where, remedy)
    return one


def _family(cls: type) -> dict:
    """Every class derived from `cls`, `cls` included, by name. Of two with one name the library's
    counts, not a copy made in a notebook."""
    def all_of(c): return [c, *(e for d in c.__subclasses__() for e in all_of(d))]
    return {c.__name__: c
            for c in sorted(all_of(cls), key=lambda c: c.__module__.startswith('snn_repro.'))}


_hints: Callable[[Any], dict[str, Any]] = lru_cache(maxsize=None)(typing.get_type_hints)


@lru_cache(maxsize=None)
def _unfinished(cls: type) -> bool:
    """Whether a class leaves all to those derived from it: a method that is not implemented, or
    class variables none of which has a value."""
    methods = [m for n in dir(cls) if hasattr(m := getattr(cls, n), '__code__')]
    wanted = [n for c in cls.__mro__ for n, kind in vars(c).get('__annotations__', {}).items()
              if typing.get_origin(kind) is typing.ClassVar and n not in vars(c)]
    return (any('NotImplementedError' in m.__code__.co_names for m in methods)
            or bool(wanted) and not any(hasattr(cls, n) for n in wanted))


def own_source(cls: Any) -> str:
    """Digits of the source of a class that is not the library's own, else an empty text.
    Raises `UserError` where it cannot be told, and for a class that bears a library class's name
    with other source."""
    ours = cls.__module__.startswith('snn_repro.')
    if ours and getattr(sys.modules.get(cls.__module__), cls.__name__, None) is cls: return ''
    from snn_repro.core import identity   # here: most need no more than the line above
    check('source' not in cls.__dataclass_fields__,
          "a setting keeps its class's source under `source`", cls.__name__,
          'give that field another name')
    try: return identity.source_of(cls)
    except identity.NoSource as e: raise UserError(e.what, cls.__name__, e.remedy) from e


def _kind(v: Any) -> dict[str, Any]:
    "What `to_dict` says of a setting's class."
    source = own_source(type(v))
    return {'type': type(v).__name__} | ({'source': source} if source else {})


@dataclass(frozen=True, kw_only=True)
class Spec:
    """A frozen setting. Subclasses are frozen dataclasses; `__post_init__` checks single values.

    `variants` names sets of other values for the same fields, such as
    `{'paper': dict(combine='mean')}` where a paper's text and its authors' code differ. `later`
    names fields that came after runs had been made: at their default they are left out of the key,
    so those runs keep their ids.
    """
    variants: typing.ClassVar[dict[str, dict[str, Any]]] = {}
    later: typing.ClassVar[tuple[str, ...]] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain data with the class name under `type`, and its `source` if not the library's.
        `from_dict` reads it back. Raises `UserError` as `own_source` does."""
        return _kind(self) | {f.name: _plain(getattr(self, f.name))
                              for f in dataclasses.fields(self)}

    @classmethod
    def from_dict(cls, d: dict[str, Any], where: str = '') -> Self:
        """The spec that `to_dict` wrote.
        Raises `UserError` for an unknown type or field, a missing field, a value of the wrong
        kind, and where the class here has another source."""
        where = where or cls.__name__
        check(isinstance(d, dict), f'expected a setting with a "type", found {shown(d)}', where)
        family = _family(cls)
        name = d.get('type', cls.__name__)
        check(isinstance(name, str) and name in family and not _unfinished(family[name]),
              f'unknown type {shown(name)}', where,
              'known: ' + ', '.join(sorted(n for n, c in family.items()
                                           if not n.startswith('_') and not _unfinished(c)))
              + '; one of your own: --import its file')
        kind = family[name]
        fields = {f.name: f for f in dataclasses.fields(kind)}
        for k in d:
            check(k in fields or k in ('type', 'source'), f'unknown key {shown(k)}', where,
                  f'{name} has: ' + ', '.join(fields))
        for k, f in fields.items():
            check(k in d or f.default is not dataclasses.MISSING, f'missing key {k!r}', where,
                  f'{name} needs it')
        check('source' not in d or d['source'] == own_source(kind),
              f'the source of {name} is another here than where this was written', where,
              'restore it, or start a run of its own')
        hints = _hints(kind)
        values = {k: _value(v, hints[k], f'{where}.{k}') for k, v in d.items() if k in fields}
        try: return kind(**values)
        except UserError as e: raise UserError(e.what, where, e.remedy) from e

    def to_json(self, indent: int | None = None) -> str:
        return json.dumps(self.to_dict(), indent=indent)

    def digest(self) -> str:
        "Ten hexadecimal digits: the head of the SHA-256 of the sorted JSON."
        return ten_digits(_named(self))

    @property
    def key(self) -> str:
        "The digits that name this setting."
        return self.digest()


def ten_digits(said: dict[str, Any]) -> str:
    "Ten hexadecimal digits: the head of the SHA-256 of the sorted JSON."
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:10]


def _named(v: Any) -> Any:
    """What the key hashes: `to_dict` without later fields of the library at their default.
    2 and 2.0 are one value of a float field."""
    if not isinstance(v, Spec): return [_named(o) for o in v] if isinstance(v, tuple) else v
    said, hints = _kind(v), _hints(type(v))
    values = {f.name: _value(getattr(v, f.name), hints[f.name], f'{said["type"]}.{f.name}')
              for f in dataclasses.fields(v)}
    left_out = {f.name for f in dataclasses.fields(v)
                if f.name in v.later and values[f.name] == f.default and 'source' not in said}
    return said | {k: _named(o) for k, o in values.items() if k not in left_out}


def _plain(v: Any) -> Any:
    if isinstance(v, Spec): return v.to_dict()
    return [_plain(o) for o in v] if isinstance(v, tuple) else v


def _value(v: Any, hint: Any, where: str) -> Any:
    "`v`, read from JSON, as the type that a field's annotation asks for."
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if v is None and type(None) in args: return None
        return _value(v, next(a for a in args if a is not type(None)), where)
    if origin is typing.Literal:
        check(any(type(v) is type(a) and v == a for a in args), f'{shown(v)} is not possible',
              where, 'choose from ' + ', '.join(map(str, args)))
        return v
    if origin is tuple:
        check(isinstance(v, (list, tuple)), f'expected a list, found {shown(v)}', where)
        item = lambda i: args[0] if args[-1] is ... else args[i]
        check(args[-1] is ... or len(v) == len(args),
              f'expected {len(args)} values, found {len(v)}', where)
        return tuple(_value(o, item(i), f'{where}.{i}') for i, o in enumerate(v))
    if isinstance(hint, type) and issubclass(hint, Spec):
        return v if isinstance(v, hint) else hint.from_dict(v, where)
    if hint is float and type(v) is int and abs(v) < 2**1000: v = float(v)
    check(type(v) is hint, f'expected {hint.__name__}, found {shown(v)}', where)
    check(hint is not float or math.isfinite(v), f'{v} is not possible', where,
          'give a finite number')
    return v


S = typing.TypeVar('S', bound=Spec)


def edit(spec: S, path: str, value: Any) -> S:
    """`spec` with the field at a dotted `path` (`recipe.epochs`, `objective.0.peak`) set to a JSON
    value."""
    d: Any = spec.to_dict()
    node = d
    *parents, last = path.split('.')
    for i, p in enumerate([*parents, last]):
        here = '.'.join([type(spec).__name__, *parents[:i]])
        at: Any = p
        if isinstance(node, list):
            check(p in map(str, range(len(node))), f'no entry {shown(p)}', here,
                  f'it has {len(node)}, counted from 0')
            at = int(p)
        else:
            check(isinstance(node, dict) and p in node, f'unknown key {shown(p)}', here,
                  'keys: ' + ', '.join(k for k in node if k not in ('type', 'source'))
                  if isinstance(node, dict) else 'it has no keys')
        if i == len(parents): node[at] = _meant(value, node[at])
        else: node = node[at]
    return type(spec).from_dict(d)


def _meant(value: Any, old: Any) -> Any:
    "`value`, or the setting with its defaults that it names where `old` is one, or a list of them."
    if not isinstance(value, str): return value
    if isinstance(old, dict): return {'type': value}
    several = isinstance(old, list) and any(isinstance(o, dict) for o in old)
    return [{'type': value}] if several else value


def edits(spec: S, changes: Iterable[str]) -> S:
    """`spec` after `changes` such as 'recipe.epochs=5', one after the other; a value is JSON, or
    else text. 'arch=MyNet' puts a setting by its defaults there."""
    for change in changes:
        path, equals, text = change.partition('=')
        check(equals, 'expected KEY=VALUE', f'--set {change}')
        try: value = json.loads(text)
        except (ValueError, RecursionError): value = text
        spec = edit(spec, path, value)
    return spec


def variant(spec: S, name: str) -> S:
    """`spec` with the variant `name` of each part applied, at every depth; parts without that
    variant stay as they are."""
    def deep(v: Any) -> Any:
        if isinstance(v, Spec): return variant(v, name)
        return tuple(map(deep, v)) if isinstance(v, tuple) else v
    changed = {f.name: deep(getattr(spec, f.name)) for f in dataclasses.fields(spec)}
    return dataclasses.replace(spec, **(changed | type(spec).variants.get(name, {})))


def diff(a: Spec, b: Spec) -> dict[str, tuple[Any, Any]]:
    "The dotted paths at which two settings differ, each with both values."
    fa, fb = flat(a), flat(b)
    return {k: (fa.get(k), fb.get(k))
            for k in sorted(fa.keys() | fb.keys()) if fa.get(k) != fb.get(k)}


def flat(spec: Spec) -> dict[str, Any]:
    "A setting as one level of dotted paths."
    return dotted(spec.to_dict())


def dotted(value: Any, path: str = '') -> dict[str, Any]:
    "Nested plain data as one level of dotted paths."
    below = (value.items() if isinstance(value, dict) else enumerate(value)
             if isinstance(value, list) and any(isinstance(v, dict) for v in value) else None)
    if below is None: return {path[1:]: value}
    return {p: o for k, v in below for p, o in dotted(v, f'{path}.{k}').items()}
