"""Notebooks whose classes need what the notebook defines while they are loaded: saved, then loaded in a
process where nothing of it is. All comes back and works, or is named as not saved, with the reason.
"""

from __future__ import annotations

import pytest

from kernel_runtime.store.memory import MemoryStore
from tests.cases import each
from tests.store.guests import load, save

#: Cells of a notebook → what is true after they have come back.
WHOLE = {
    "a constant in __setstate__": (
        "class P:\n    def __setstate__(self, state): self.__dict__ = state; self.k = CONST\np = P(); p.k = 5; CONST = 5",
        "p.k == 5",
    ),
    "a module in __setstate__": (
        "import json\nclass P:\n    def __getstate__(self): return json.dumps(vars(self))\n    def __setstate__(self, text): vars(self).update(json.loads(text))\np = P(); p.v = [7]",
        "p.v == [7]",
    ),
    "a function, a class and a constant in __reduce__": (
        "class P:\n    def __init__(self, v): self.v = v\n    def __reduce__(self): return make, (str(self.v),)\np = P(7); q = {'p': [p]}\ndef make(text): return P(parse(text) + OFF)\ndef parse(text): return int(text)\nOFF = 0",
        "p.v == 7 and q['p'][0] is p",
    ),
    "a constant in __hash__": (
        "SALT = 3\nclass K:\n    def __init__(self, n): self.n = n\n    def __hash__(self): return hash(self.n) + SALT\n    def __eq__(self, other): return type(other) is K and same(self, other)\nd = {K(1): 2, K(2): 3}; s = {K(1)}; SALT = globals().pop('SALT')\ndef same(a, b): return a.n == b.n",
        "d[K(1)] == 2 and K(1) in s and K(3) not in s",
    ),
    "keys that hash as others do": (
        "BUCKET = 4\nclass K:\n    def __init__(self, n): self.n = n\n    def __hash__(self): return BUCKET\n    def __eq__(self, other): return self.n == other.n\nd = {K(n): n for n in range(9)}; BUCKET = globals().pop('BUCKET')",
        "all(d[K(n)] == n for n in range(9)) and len(d) == 9",
    ),
    "an instance of another class in __setstate__": (
        "class User:\n    def __setstate__(self, state): self.__dict__ = state; self.c = CONFIG.level\nclass Config:\n    def __init__(self): self.level = 2\nu = User(); u.c = 2; CONFIG = Config()",
        "u.c == 2 and type(CONFIG) is Config",
    ),
    "hooks that need each other's variables in turn": (
        "class A:\n    def __init__(self, n): self.n = n\n    def __setstate__(self, state): self.__dict__ = state; LOOK[self.n]()\na = A('b'); b = A('c'); c = A('end'); LOOK = {'b': lambda: b.n, 'c': lambda: c.n, 'end': lambda: 1}",
        "[a.n, b.n, c.n] == ['b', 'c', 'end'] and LOOK['b']() == 'c'",
    ),
    "a default that is an instance": (
        "class P:\n    def __init__(self): self.k = 0\n    def __setstate__(self, state): self.__dict__ = state; self.k = CONST\ndef f(p=P(), *, q=[P()]): return p, q[0]\nCONST = 0\nkept = f()[0]",
        "f()[0].k == 0 and type(f()[1]) is P and f()[0] is kept",
    ),
    "a default whose hook needs an instance": (
        "class Config:\n    def __init__(self): self.level = 2\nclass P:\n    def __setstate__(self, state): self.__dict__ = state; self.k = CONFIG.level\np = P(); p.k = 2\ndef f(p=p): return p\nCONFIG = Config()",
        "f() is p and p.k == 2",
    ),
    "an instance of the class on the class": (
        "class Node:\n    def __setstate__(self, state): self.__dict__ = state; self.seen = helper(self)\n    def __init__(self, n): self.n = n; self.seen = n + 1\nNode.first = Node(1); Node.table = {'x': Node(2)}; top = Node.first\ndef helper(node): return node.n + ONE\nONE = 1",
        "Node.first is top and top.seen == 2 and Node.table['x'].seen == 3",
    ),
    "a closure over an instance": (
        "class P:\n    def __setstate__(self, state): self.__dict__ = state; self.k = CONST\ndef outer(p):\n    def get(): return p\n    return get\np = P(); p.k = 8; get = outer(p); CONST = 8",
        "get() is p and p.k == 8",
    ),
    "subclasses that are noted in a variable": (
        "REGISTRY = {}\nclass Base:\n    def __init_subclass__(cls, /, tag, **more): super().__init_subclass__(**more); REGISTRY[tag] = cls\nclass A(Base, tag='a'): pass\nclass B(A, tag='b'): x = 1\nb = B()",
        "REGISTRY == {'a': A, 'b': B} and type(REGISTRY['b']()) is B and type(b) is B",
    ),
    "a metaclass with a registry": (
        "MADE = []\nclass Meta(type):\n    kept = {}\n    def __new__(meta, name, bases, names, **kw):\n        made = super().__new__(meta, name, bases, names); MADE.append(name); return made\n    def __call__(cls, *args):\n        if cls not in Meta.kept: Meta.kept[cls] = super().__call__(*args)\n        return Meta.kept[cls]\nclass One(metaclass=Meta): pass\none = One()",
        "One() is one and MADE == ['One'] and type(One) is Meta",
    ),
    "an enum with an __init__, aliases and flags": (
        "import enum\nclass Planet(enum.Enum):\n    EARTH = (2, 3)\n    MARS = (4, 5)\n    HOME = (2, 3)\n    def __init__(self, mass, radius): self.mass = mass; self.radius = radius\n    def weight(self): return self.mass * G\nclass Mode(enum.IntFlag):\n    R = 1\n    W = 2\n    RW = 3\nclass Say(str, enum.Enum):\n    HI = 'hi'\nG = 10; home = Planet.HOME; by = {Planet.MARS: 1, Say.HI: 2}; both = Mode.R | Mode.W",
        "home is Planet.EARTH and home.weight() == 20 and Planet['HOME'] is home and list(Planet.__members__) == ['EARTH', 'MARS', 'HOME'] and both is Mode.RW and by[Planet((4, 5))] == 1 and by[Say('hi')] == 2",
    ),
    "dataclasses, inherited after loading": (
        "import dataclasses\n@dataclasses.dataclass(frozen=True)\nclass Point:\n    x: int\n    y: int = 0\n    tags: list = dataclasses.field(default_factory=list, compare=False)\n@dataclasses.dataclass\nclass Box:\n    corner: Point = Point(1)\n    def __setstate__(self, state): self.__dict__ = state; dataclasses.replace(self.corner, x=EDGE)\nbox = Box(); seen = {Point(1): 'a', Point(2, 3): 'b'}; EDGE = 1",
        "seen[Point(2, 3)] == 'b' and box == Box() and dataclasses.fields(Point)[0].default is dataclasses.MISSING and dataclasses.make_dataclass('Sub', [('z', int, 3)], bases=(Point,), frozen=True)(1, 2).z == 3",
    ),
    "slots and a frozen dataclass with slots": (
        "import dataclasses\n@dataclasses.dataclass(frozen=True, slots=True)\nclass S:\n    x: int\n    y: object = None\nclass T:\n    __slots__ = ('a', '__b')\n    def __init__(self): self.a = 1; self.__b = LIMIT\n    def b(self): return self.__b\nLIMIT = 4; s = {S(1): T()}; t = s[S(1)]",
        "s[S(1)] is t and t.b() == 4 and not hasattr(t, '__dict__') and not hasattr(S(1), '__dict__')",
    ),
    "named tuples": (
        "import collections, typing\nclass N(typing.NamedTuple):\n    a: int\n    b: str = 'x'\n    def both(self): return f'{self.a}{self.b}{SUFFIX}'\nM = collections.namedtuple('M', 'p q', defaults=[N(1)]); n = N(2); m = M(3); d = {n: m}; SUFFIX = '!'",
        "n.both() == '2x!' and m.q == N(1) and d[N(2)] == M(3) and N._field_defaults == {'b': 'x'}",
    ),
    "generics, protocols and abstract classes": (
        "import abc, typing\nT = typing.TypeVar('T')\nclass Has(typing.Protocol):\n    def size(self) -> int: ...\n@typing.runtime_checkable\nclass Sized(Has, typing.Protocol): ...\nclass Stack(typing.Generic[T]):\n    def __init__(self): self.items: list[T] = []\n    def size(self): return len(self.items)\nclass Ints(Stack[int]): pass\nclass Shape(abc.ABC):\n    @abc.abstractmethod\n    def area(self): ...\nclass Square(Shape):\n    def area(self): return SIDE ** 2\nShape.register(Stack); SIDE = 3; ints = Ints(); sq = Square(); alias = Stack[int]",
        "isinstance(ints, Sized) and isinstance(ints, Shape) and sq.area() == 9 and alias.__origin__ is Stack and Stack.__parameters__ == (T,) and Shape.__abstractmethods__ == frozenset({'area'})",
    ),
    "decorators with and without arguments": (
        "import functools\nCALLS = []\ndef noted(label):\n    def wrap(f):\n        @functools.wraps(f)\n        def inner(*args): CALLS.append(label); return f(*args)\n        return inner\n    return wrap\n@noted('twice')\n@functools.lru_cache\ndef twice(n): return n * FACTOR\nclass C:\n    @noted('m')\n    def m(self): return twice(self.n)\n    def __setstate__(self, state): self.__dict__ = state; self.m()\nFACTOR = 2; c = C(); c.n = 4",
        "c.m() == 8 and twice.__wrapped__.__wrapped__(1) == 2 and CALLS[-2:] == ['m', 'twice']",
    ),
    "lambdas, partials, bound methods and properties": (
        "import functools, operator\nclass P:\n    def __init__(self, v): self._v = v\n    v = property(lambda self: scale(self._v), lambda self, v: setattr(self, '_v', v))\n    double = functools.cached_property(lambda self: self.v * 2)\n    @classmethod\n    def of(cls, v): return cls(v)\n    @staticmethod\n    def make(): return P(ONE)\n    def __reduce__(self): return P.of, (self._v,)\nscale = lambda v: v + ONE\nONE = 1; p = P(1); calls = [p.of, functools.partial(scale, 3), P.make, operator.methodcaller('of', 2)]",
        "p.v == 2 and p.double == 4 and calls[0](1).v == 2 and calls[1]() == 4 and calls[2]().v == 2",
    ),
    "functions and classes that refer to each other": (
        "class A:\n    def other(self): return B()\n    def __setstate__(self, state): self.__dict__ = state; other(self)\nclass B:\n    def other(self): return A()\n    def __setstate__(self, state): self.__dict__ = state; other(self)\ndef other(x): return x.other()\na = A(); b = B(); a.b, b.a = b, a",
        "a.b is b and b.a is a and type(a.other()) is B",
    ),
    "a cycle through a class that is a key": (
        "class K:\n    def __init__(self): self.of = {type(self): self}\n    @property\n    def me(self): return self.of[K]\nk = K(); HOOKS = {K: [k], len: K.me}",
        "HOOKS[K][0] is k is k.me and HOOKS[len] is K.me",
    ),
    "an exception that was kept, beside classes": (
        "CONST = 3\nclass K:\n    def __init__(self, n): self.n = n\n    def __hash__(self): return hash(self.n) + CONST\n    def __eq__(self, other): return self.n == other.n\nd = {K(1): 2}\nclass MyError(Exception):\n    def __init__(self, code): super().__init__(f'code {code}'); self.code = code\n    def __reduce__(self): return rebuilt, (self.code,)\ndef rebuilt(code): return MyError(code + CONST - 3)\ne = MyError(4)",
        "d[K(1)] == 2 and e.code == 4 and str(e) == 'code 4'",
    ),
    "operators, context managers and iterators": (
        "class V:\n    def __init__(self, *v): self.v = v\n    def __add__(self, other): return V(*map(add, self.v, other.v))\n    def __eq__(self, other): return self.v == other.v\n    __hash__ = None\n    def __enter__(self): DEPTH.append(1); return self\n    def __exit__(self, *_): DEPTH.pop()\n    def __iter__(self): return iter(self.v)\n    def __getattr__(self, name):\n        if name in ALIASES: return self.v[ALIASES[name]]\n        raise AttributeError(name)\nadd = lambda a, b: a + b\nALIASES = {'x': 0, 'y': 1}; DEPTH = []; v = V(1, 2) + V(2, 3)",
        "v == V(3, 5) and v.y == 5 and [*v] == [3, 5] and v.__enter__() is v and DEPTH == [1]",
    ),
    "numbers and frames in hooks": (
        "import numpy as np, pandas as pd\nclass Model:\n    def __init__(self, w): self.w = w; self.mean = float(TABLE['x'].mean())\n    def __getstate__(self): return {'w': self.w.tolist()}\n    def __setstate__(self, state): self.__init__(np.asarray(state['w'], dtype=KIND))\nTABLE = pd.DataFrame({'x': np.arange(4.0)}); KIND = np.float32; m = Model(np.ones(3, np.float32)); view = TABLE['x'].to_numpy()",
        "m.mean == 1.5 and m.w.dtype == KIND and len(view) == 4",
    ),
    "subclasses of list, dict, int and str": (
        "class L(list):\n    def append(self, value): super().append(check(value))\nclass D(dict):\n    def __missing__(self, key): return DEFAULT\n    def __setitem__(self, key, value): super().__setitem__(check(key), value)\nclass I(int):\n    def __new__(cls, v, unit='m'): made = super().__new__(cls, v); made.unit = unit; return made\n    def __getnewargs__(self): return int(self), check(self.unit)\ncheck = lambda value: value\nDEFAULT = 0; l = L(); l.append(1); d = D(); d['a'] = l; i = I(3, 'km')",
        "l == [1] and type(l) is L and d['a'] is l and d['b'] == 0 and i == 3 and i.unit == 'km'",
    ),
    "descriptors and __set_name__": (
        "SEEN = []\nclass Field:\n    def __init__(self, default): self.default = default\n    def __set_name__(self, owner, name): self.name = '_' + name; SEEN.append(name)\n    def __get__(self, it, owner=None): return self if it is None else it.__dict__.get(self.name, self.default)\n    def __set__(self, it, value): it.__dict__[self.name] = valid(value)\n    def __setstate__(self, state): self.__dict__ = state; valid(self.default)\ndef valid(value):\n    assert value <= MOST\n    return value\nMOST = 9\nclass Row:\n    a = Field(1)\nrow = Row(); row.a = 5",
        "row.a == 5 and Row().a == 1 and SEEN == ['a'] and Row.a.name == '_a'",
    ),
    "singletons by __new__": (
        "class Only:\n    _only = None\n    def __new__(cls):\n        if cls._only is None: cls._only = super().__new__(cls)\n        return cls._only\nonly = Only(); only.items = [1]; also = [Only()]",
        "Only() is only is also[0] and only.items == [1]",
    ),
    "a module under another name, a submodule, a function of it": (
        "import os.path as p, collections.abc, json as j\nfrom math import sqrt as root\nclass C:\n    def __setstate__(self, state): self.__dict__ = state; self.v = root(j.loads('4')); p.join('a', 'b'); collections.abc.Mapping\nc = C(); c.v = 2.0",
        "c.v == 2.0 and p.basename('a/b') == 'b'",
    ),
    "a type that is registered beside hooks": (
        "from kernel_runtime.sdk import checkpoint\nimport threading\nclass Conn:\n    def __init__(self, path): self.path = path; self.lock = threading.Lock(); self.kind = KIND['x'].name\nclass Kind:\n    def __init__(self, name): self.name = name\n    def __setstate__(self, state): self.__dict__ = state; self.name = upper(self.name)\ndef upper(text): return text.upper()\nKIND = {'x': Kind('U')}\ncheckpoint.register(Conn, save=lambda c: c.path, rebuild=Conn)\nc = Conn('p'); users = [c, c]",
        "users[0] is users[1] is c and c.kind == 'U' and c.lock.acquire()",
    ),
}  # fmt: skip

_KEPT_ERROR = "\nexc = None\ntry:\n    1 / 0\nexcept ZeroDivisionError as error:\n    exc = error\nimport sys\nframe = sys._getframe(); trace = exc.__traceback__\n"


def test_there_are_enough_of_them():
    assert len(WHOLE) >= 25


#: Every third one; the others are slow.
QUICK = list(WHOLE)[::3]


@pytest.mark.parametrize(
    "tail",
    [pytest.param("", id=""), pytest.param(_KEPT_ERROR, id="beside a traceback", marks=pytest.mark.slow)],
)
@pytest.mark.parametrize("what", each({what: what for what in WHOLE}, lambda what: what not in QUICK))
def test_it_comes_back_whole(what, tail):
    cells, check = WHOLE[what]
    store = MemoryStore()
    kept = save(store, cells + tail)
    assert set(kept.skipped) == ({"exc", "frame", "trace"} if tail else set())
    restored, result = load(store, kept.id, f"result = bool({check})")
    assert restored.failed == {} and restored.names == kept.names
    assert result is True


#: Cells, a variable of which would not come back → that one, and a word of the reason.
NAMED = {
    "a constant that is gone": ("CONST = 1\nclass P:\n    def __setstate__(self, state): self.__dict__ = state; self.k = CONST\nbad = P(); bad.k = 1; del CONST", "CONST"),
    "one that is not saved": ("g = (n for n in ())\nclass P:\n    def __setstate__(self, state): self.__dict__ = state; g.gi_frame\nbad = P(); bad.k = 1", "'g'"),
    "itself": ("class P:\n    def __setstate__(self, state): self.__dict__ = state; bad.k\nbad = P(); bad.k = 1", "'bad'"),
    "a key whose hash is gone": ("SALT = 4\nclass K:\n    def __hash__(self): return SALT\nbad = {K(): 1}; del SALT", "SALT"),
    "what only this process has": ("import os\nPID = os.getpid()\nclass P:\n    def __setstate__(self, state): self.k = state['k'] + COUNT.pop()\nCOUNT = [1]\nbad = P(); bad.k = 1", "comes back"),
    "it ends the process": ("class P:\n    def __setstate__(self, state): raise SystemExit('no')\nbad = P(); bad.k = 1", "SystemExit"),
}  # fmt: skip


@pytest.mark.parametrize("what", NAMED)
def test_what_would_not_come_back_is_named(what):
    cells, word = NAMED[what]
    store = MemoryStore()
    kept = save(store, f"{cells}\ngood = [1]; fine = type(good)")
    assert word in kept.skipped["bad"], kept.skipped
    restored, result = load(store, kept.id, "result = good == [1] and 'bad' not in globals()")
    assert restored.failed == {} and restored.names == kept.names
    assert result is True


def test_a_default_that_would_not_come_back_takes_only_its_function():
    store = MemoryStore()
    cells = "CONST = 1\nclass P:\n    def __setstate__(self, state): self.k = CONST\np = P(); p.k = 1\ndef f(p=p): return p\ndef g(): return P()\ndel CONST"
    kept = save(store, cells)
    assert "CONST" in kept.skipped["f"] and "CONST" in kept.skipped["p"]
    restored, result = load(store, kept.id, "result = type(g()) is P")
    assert restored.failed == {} and restored.names == ["P", "g"] and result is True


def test_registered_ways_are_not_tried_out_when_saved():
    """They open what is outside: a connection, a file."""
    store = MemoryStore()
    cells = "from kernel_runtime.sdk import checkpoint\nOPENED = []\nclass Conn:\n    def __init__(self): OPENED.append(1)\n    def __setstate__(self, state): pass\ncheckpoint.register(Conn, save=lambda c: 1, rebuild=lambda n: Conn())\nclass Holder:\n    def __setstate__(self, state): self.__dict__ = state\nh = Holder(); h.c = Conn(); checkpoint.register('v', save=lambda v: 1, rebuild=lambda v: OPENED.append(2))\nv = h; seen = OPENED"
    kept = save(store, cells)
    assert kept.skipped == {}
    _, result = load(store, kept.id, "result = OPENED")
    assert sorted(result) == [1, 1, 2]
