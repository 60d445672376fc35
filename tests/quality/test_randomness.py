"""Every random number comes from a named stream of the run's seed (reliability.md 3.1, row D07).

The rules are read off the syntax trees of all sources: a draw from a global generator, a seed made of
the time, or an order taken from a hash table changes results without any test of results failing.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import pytest

# Dropout can only draw from the default generator, so the loop seeds it before every update; initial weights of
# torch's layers come from it as well, and are drawn inside ``initial_weights``.
MAY_SEED = {"common/nearfar/training/step.py", "common/nearfar/runtime/rng.py"}
MAY_DRAW = "common/nearfar/runtime/dropout.py"

NUMPY_ALLOWED = {"BitGenerator", "Generator", "Philox", "SeedSequence"}
TORCH_DRAWS = {
    "bernoulli",
    "multinomial",
    "normal",
    "poisson",
    "rand",
    "rand_like",
    "randint",
    "randint_like",
    "randn",
    "randn_like",
    "randperm",
}
# In-place draws, as methods of tensors and as functions of torch.nn.init.
IN_PLACE_DRAWS = re.compile(
    r"(bernoulli|cauchy|exponential|geometric|log_normal|normal|orthogonal|random|sparse|trunc_normal|uniform"
    r"|(kaiming|xavier)_(normal|uniform))_"
)
# Methods that NumPy generators have under the same name, where the generator is the receiver.
SHARED_DRAWS = {"bernoulli", "multinomial"}
GLOBAL_SEEDS = {
    "torch.cuda.manual_seed",
    "torch.cuda.manual_seed_all",
    "torch.default_generator",
    "torch.manual_seed",
    "torch.mps.manual_seed",
    "torch.random.manual_seed",
    "torch.random.seed",
    "torch.seed",
}
# No generator can be given to these at all.
WITHOUT_GENERATOR = {"torch.distributions", "torch.nn.functional.gumbel_softmax"}
CHANGES_EVERY_RUN = ("time.", "datetime.", "os.getpid", "os.urandom", "secrets.", "uuid.")
SEEDING = {
    "Philox",
    "SeedSequence",
    "default_rng",
    "generator",
    "manual_seed",
    "numpy_generator",
    "stream_seed",
}
# What comes out of these does not depend on the order of what goes in.
ORDER_FREE = {"all", "any", "frozenset", "fsum", "len", "max", "min", "set", "sorted"}
ORDER_KEPT = {"enumerate", "filter", "iter", "join", "list", "map", "next", "tuple", "zip"}
SET_METHODS = {"difference", "intersection", "symmetric_difference", "union"}


@dataclass(frozen=True)
class Source:
    """One file with what the rules ask about it.

    Attributes:
        path: From the checkout.
        tree: Its syntax.
        names: What imported names stand for, ``{"np": "numpy"}``.
        parents: The node around each node.
    """

    path: str
    tree: ast.Module
    names: Mapping[str, str]
    parents: Mapping[ast.AST, ast.AST]

    @classmethod
    def of(cls, path: str, tree: ast.Module) -> Source:
        """Read the imports and turn the tree around."""
        parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
        return cls(path, tree, dict(_imported(tree)), parents)

    def dotted(self, node: ast.AST) -> str:
        """``np.random.rand`` as ``numpy.random.rand``; empty for anything that is not a name."""
        parts: list[str] = []
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        if not isinstance(node, ast.Name):
            return ""
        return ".".join([self.names.get(node.id, node.id), *reversed(parts)])

    def calls(self) -> Iterator[tuple[ast.Call, str]]:
        """Every call, with the dotted name of what is called."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Call):
                yield node, self.dotted(node.func)


Finding = tuple[int, str]
Rule = Callable[[Source], Iterator[Finding]]


def _imported(tree: ast.Module) -> Iterator[tuple[str, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name.partition(".")[0]
                yield (alias.asname, alias.name) if alias.asname else (top, top)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            for alias in node.names:
                yield alias.asname or alias.name, f"{node.module}.{alias.name}"


def no_python_random(source: Source) -> Iterator[Finding]:
    """``random`` has one hidden state for the whole process."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            modules = [node.module or ""]
        else:
            continue
        if any(module.partition(".")[0] == "random" for module in modules):
            yield node.lineno, "import of random"


def no_numpy_legacy(source: Source) -> Iterator[Finding]:
    """``np.random.Generator(np.random.Philox(...))`` is the one way in."""
    for call, name in source.calls():
        module, _, function = name.rpartition(".")
        if module == "numpy.random" and function not in NUMPY_ALLOWED:
            yield call.lineno, f"call of {name}; use nearfar.runtime.numpy_generator"


def no_bare_torch_draw(source: Source) -> Iterator[Finding]:
    """Draws of torch without ``generator=``; dropout's are of the seeded default generator."""
    if source.path == MAY_DRAW:
        return
    for call, name in source.calls():
        if _draws(call, name) and not _has_generator(call):
            shown = name or ast.unparse(call.func)
            yield call.lineno, f"{shown} draws from the default generator; give generator="
    for node in ast.walk(source.tree):
        for name in _mentioned(source, node):
            if any(name == banned or name.startswith(f"{banned}.") for banned in WITHOUT_GENERATOR):
                yield getattr(node, "lineno", 0), f"{name} cannot be given a generator"


def _draws(call: ast.Call, name: str) -> bool:
    if name.startswith("torch.") and name.removeprefix("torch.") in TORCH_DRAWS:
        return True
    if not isinstance(call.func, ast.Attribute):
        return name.startswith("torch.nn.init.") and bool(IN_PLACE_DRAWS.fullmatch(name.rpartition(".")[2]))
    if IN_PLACE_DRAWS.fullmatch(call.func.attr):
        return True
    receiver = ast.unparse(call.func.value)
    return call.func.attr in SHARED_DRAWS and not re.search(r"(rng|generator)(\(.*\))?$", receiver)


def _has_generator(call: ast.Call) -> bool:
    given = [keyword.value for keyword in call.keywords if keyword.arg == "generator"]
    return bool(given) and not (isinstance(given[0], ast.Constant) and given[0].value is None)


def _mentioned(source: Source, node: ast.AST) -> list[str]:
    if isinstance(node, ast.Attribute):
        return [source.dotted(node)]
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.level == 0:
        return [f"{node.module}.{alias.name}" for alias in node.names]
    return []


def no_global_seed(source: Source) -> Iterator[Finding]:
    """Only the training loop and what draws initial weights may seed the default generator."""
    if source.path in MAY_SEED:
        return
    for node in ast.walk(source.tree):
        for name in set(_mentioned(source, node)) & GLOBAL_SEEDS:
            yield getattr(node, "lineno", 0), f"{name} changes the caller's random numbers"


def no_hash(source: Source) -> Iterator[Finding]:
    """``hash`` of text differs from process to process."""
    for call, name in source.calls():
        if name == "hash":
            yield call.lineno, "hash(); use hashlib.blake2b"


def no_clock_in_seed(source: Source) -> Iterator[Finding]:
    """Seeds made of the time, the process or the system's randomness."""
    for expression in _seed_expressions(source):
        for node in ast.walk(expression):
            name = source.dotted(node.func) if isinstance(node, ast.Call) else ""
            if name.startswith(CHANGES_EVERY_RUN):
                yield node.lineno, f"{name} in a seed"  # type: ignore[attr-defined]  # calls have lines


def _seed_expressions(source: Source) -> Iterator[ast.expr]:
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Call):
            last = node.func.attr if isinstance(node.func, ast.Attribute) else source.dotted(node.func)
            if last.rpartition(".")[2] in SEEDING:
                yield from node.args
            yield from (keyword.value for keyword in node.keywords if "seed" in (keyword.arg or ""))
        elif isinstance(node, (ast.Assign, ast.AnnAssign, ast.AugAssign, ast.NamedExpr)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if node.value is not None and any("seed" in ast.unparse(target).lower() for target in targets):
                yield node.value


def no_set_order(source: Source) -> Iterator[Finding]:
    """Loops over sets, and sequences made from them: their order is that of the hash table."""
    for node in ast.walk(source.tree):
        for used in _order_matters(source, node):
            if _is_set(used, _scope(source, node)):
                yield used.lineno, f"the order of a set is used ({ast.unparse(used)}); sort it"


def _order_matters(source: Source, node: ast.AST) -> list[ast.expr]:
    """Expressions whose order ``node`` passes on."""
    if isinstance(node, (ast.For, ast.AsyncFor)):
        return [node.iter]
    if isinstance(node, (ast.ListComp, ast.DictComp, ast.GeneratorExp)):
        around = source.parents.get(node)
        free = isinstance(around, ast.Call) and _last(around.func) in ORDER_FREE
        return [] if free else [generator.iter for generator in node.generators]
    if isinstance(node, ast.Call) and _last(node.func) in ORDER_KEPT:
        return [a for a in node.args if not isinstance(a, ast.Starred)]
    if isinstance(node, ast.Starred) and not isinstance(source.parents.get(node), ast.Set):
        return [node.value]
    return []


def _last(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def _scope(source: Source, node: ast.AST) -> ast.AST:
    while node in source.parents and not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        node = source.parents[node]
    return node


def _is_set(node: ast.expr, scope: ast.AST, looked_up: frozenset[str] = frozenset()) -> bool:
    """Whether an expression is a set for all that can be seen; names are looked up in the function."""
    if isinstance(node, (ast.Set, ast.SetComp)):
        return True
    if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.BitAnd, ast.BitOr, ast.BitXor, ast.Sub)):
        return any(_is_set(side, scope, looked_up) for side in (node.left, node.right))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        return node.func.id in ("set", "frozenset")
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        receiver = node.func.value
        of_set = _last(receiver) in ("set", "frozenset") or _is_set(receiver, scope, looked_up)
        return node.func.attr in SET_METHODS and of_set
    if isinstance(node, ast.Name) and node.id not in looked_up:
        values = _assigned(node.id, scope)
        return bool(values) and all(_is_set(value, scope, looked_up | {node.id}) for value in values)
    return False


def _assigned(name: str, scope: ast.AST) -> list[ast.expr]:
    """What a function assigns to a name."""
    values = []
    for node in ast.walk(scope):
        if isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            named = any(isinstance(target, ast.Name) and target.id == name for target in targets)
            values += [node.value] if named else []
    return values


RULES: tuple[Rule, ...] = (
    no_python_random,
    no_numpy_legacy,
    no_bare_torch_draw,
    no_global_seed,
    no_hash,
    no_clock_in_seed,
    no_set_order,
)


@pytest.mark.row("D07")
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_sources(rule: Rule, trees: Mapping[str, ast.Module]) -> None:
    found = [
        f"{path}:{line}: {message}"
        for path, tree in trees.items()
        for line, message in rule(Source.of(path, tree))
    ]
    assert not found, "\n".join(found)


PLANTED: list[tuple[Rule, str]] = [
    (no_python_random, "import random"),
    (no_python_random, "def f():\n    from random import choice"),
    (no_numpy_legacy, "import numpy as np\nx = np.random.rand(3)"),
    (no_numpy_legacy, "import numpy\nnumpy.random.seed(0)"),
    (no_numpy_legacy, "from numpy import random as r\nr.shuffle(x)"),
    (no_numpy_legacy, "from numpy.random import permutation\npermutation(3)"),
    (no_numpy_legacy, "import numpy as np\nrng = np.random.default_rng()"),
    (no_bare_torch_draw, "import torch\ntorch.rand(3)"),
    (no_bare_torch_draw, "import torch as t\nt.randint(3, (2,))"),
    (no_bare_torch_draw, "from torch import randperm\nrandperm(3)"),
    (no_bare_torch_draw, "import torch\ntorch.multinomial(p, 1, generator=None)"),
    (no_bare_torch_draw, "import torch\ntorch.randn_like(x)"),
    (no_bare_torch_draw, "p.bernoulli()"),
    (no_bare_torch_draw, "x.normal_(0, 1)"),
    (no_bare_torch_draw, "from torch import nn\nnn.init.xavier_uniform_(w)"),
    (no_bare_torch_draw, "from torch.nn.init import trunc_normal_\ntrunc_normal_(w)"),
    (no_bare_torch_draw, "from torch.distributions import Normal"),
    (no_bare_torch_draw, "import torch.nn.functional as F\nF.gumbel_softmax(x)"),
    (no_global_seed, "import torch\ntorch.manual_seed(0)"),
    (no_global_seed, "from torch import manual_seed"),
    (no_global_seed, "import torch\ntorch.cuda.manual_seed_all(0)"),
    (no_hash, "x = hash('name')"),
    (no_clock_in_seed, "import time\nseed = int(time.time())"),
    (no_clock_in_seed, "import time\nrng = generator(time.time_ns(), 'order')"),
    (no_clock_in_seed, "from time import time as now\nrun(seed=now())"),
    (no_clock_in_seed, "import os\nself.base_seed: int = os.getpid() + 1"),
    (no_clock_in_seed, "from datetime import datetime\ng.manual_seed(datetime.now().second)"),
    (no_set_order, "for user in set(users):\n    pass"),
    (no_set_order, "for user in {1, 2} | known:\n    pass"),
    (no_set_order, "x = [f(user) for user in {u for u in users}]"),
    (no_set_order, "def f(users):\n    known = set(users)\n    for user in known:\n        pass"),
    (no_set_order, "x = list(set(users))"),
    (no_set_order, "x = ', '.join(frozenset(users))"),
    (no_set_order, "x = {u: 1 for u in set.intersection(*parts)}"),
    (no_set_order, "x = sum(weight[u] for u in set(users))"),
    (no_set_order, "x = [*set(users)]"),
    (no_set_order, "def f(a):\n    b = set(a)\n    b = b - {1}\n    c = b\n    return list(c)"),
]


@pytest.mark.parametrize(("rule", "text"), PLANTED)
def test_planted_violations_are_found(rule: Rule, text: str) -> None:
    assert list(rule(Source.of("domains/nearfar/a.py", ast.parse(text))))


SOUND = '''
"""Words about random, hash() and torch.rand(3)."""
import time
import numpy as np
import torch
from torch import nn
from nearfar.runtime import generator, numpy_generator

def f(users, seed, ctx):
    started = time.monotonic()
    rng = numpy_generator(seed, "order", 3)
    rng.random(3), rng.multinomial(3, p), ctx.rng("rows").bernoulli()
    np.random.Generator(np.random.Philox(3)).normal()
    g = generator(seed, "init").manual_seed(3)
    torch.rand(3, generator=g)
    torch.empty(3).uniform_(generator=g)
    nn.init.normal_(w, std=0.02, generator=g)
    nn.functional.dropout(x, 0.1, self.training)
    known = set(users)
    for user in sorted(known):
        pass
    if 3 in known and any(u > 3 for u in known):
        return max(known - {3}), {u for u in known}
    known = {}
    one = two
    two = one
    return [u for u in known], list(one)
'''


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_no_false_alarm(rule: Rule) -> None:
    assert list(rule(Source.of("domains/nearfar/a.py", ast.parse(SOUND)))) == []


def test_only_the_loop_may_seed() -> None:
    tree = ast.parse("import torch\ntorch.manual_seed(0)")
    assert not any(list(no_global_seed(Source.of(path, tree))) for path in MAY_SEED)
    assert list(no_global_seed(Source.of("common/nearfar/training/method.py", tree)))
