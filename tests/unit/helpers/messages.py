"""What is wrong with the messages in a module's source, found without running it."""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

ERRORS = {"UserError", "ConfigError", "DataError", "MolecularSystemError", "NumericalError", "BusyError"}
OURS = ERRORS | {"Unsupported"}
"""Exceptions whose text is our own and may be passed on as it is."""
FILLED, QUOTED = "\x01", "\x02"
"""Stand in a text for a value, and for what a library said or how it calls its types."""
PYTHON = re.compile(
    r"\bNone\b(?<!= None)(?<!=None)|NoneType|\btuples?\b|\bdicts?\b|list index|has no attribute|createSystem"
    r"|Traceback|\b\w*(Key|Value|Type|Index|Attribute)Error\b|\bself\.|<class|\bstr\b|\bkwargs\b|__init__"
)
COUNTED_FROM_MINUS_ONE = re.compile(r"\b(atom|residue|frame|particle|index|row|run|chain)s? -\d")
WORDS_BEFORE_A_QUOTE = 3


@dataclass(frozen=True)
class Scope:
    """Where an expression stands: names assigned there, and exceptions of others caught around it."""

    assigned: Mapping[str, list[ast.expr]]
    caught: frozenset[str] = frozenset()


@dataclass
class Module:
    """Faults of one module; ``pairs`` are functions that return what is wrong and what to do about it."""

    source: str
    pairs: frozenset[str] = frozenset()
    faults: list[str] = field(default_factory=list)
    n_messages: int = 0

    def __post_init__(self) -> None:
        tree = ast.parse(self.source)
        self.pairs |= pair_functions(tree)
        self._look(tree, Scope(_assigned(tree)))

    def _look(self, node: ast.AST, scope: Scope) -> None:
        if isinstance(node, ast.FunctionDef):
            scope = Scope({**scope.assigned, **_assigned(node)}, scope.caught)
            if node.name in self.pairs:
                self._returned_pairs(node, scope)
        elif isinstance(node, ast.ExceptHandler) and node.name and not _names(node.type) <= OURS:
            scope = Scope(scope.assigned, scope.caught | {node.name})
        elif isinstance(node, ast.Call) and _makes_an_error(node.func):
            self._message(node, scope)
        for child in ast.iter_child_nodes(node):
            self._look(child, scope)

    def _message(self, call: ast.Call, scope: Scope) -> None:
        self.n_messages += 1
        arguments = list(call.args)
        if call.keywords or not arguments:
            self._fault(call, "where, what and remedy stand in this order, without names")
        elif isinstance(last := arguments[-1], ast.Starred):
            alternatives = list(_unpacked(last.value, scope, self.pairs))
            for texts in alternatives:
                if texts is not None:
                    self._three([*arguments[:-1], *texts], call, scope)
                elif len(arguments) != 2:
                    self._fault(call, "three texts, not another number")
            if not alternatives:
                self._fault(call, "what is unpacked is not known to be texts")
        else:
            self._three(arguments, call, scope)

    def _three(self, arguments: list[ast.expr], call: ast.Call, scope: Scope) -> None:
        if len(arguments) != 3 or any(isinstance(argument, ast.Starred) for argument in arguments):
            self._fault(call, f"three texts, not {len(arguments)}")
            return
        for text in _texts(arguments[0], scope):
            self._words(text, call)
        for argument in arguments[1:]:
            for text in _texts(argument, scope):
                self._sentence(text, call)

    def _returned_pairs(self, function: ast.FunctionDef, scope: Scope) -> None:
        for node in ast.walk(function):
            if isinstance(node, ast.Return) and isinstance(node.value, ast.Tuple):
                for text in itertools.chain.from_iterable(_texts(e, scope) for e in node.value.elts):
                    self._sentence(text, node)

    def _words(self, text: str, node: ast.AST) -> None:
        if not text.strip():
            self._fault(node, "an empty text")
        for pattern in (PYTHON, COUNTED_FROM_MINUS_ONE):
            if found := pattern.search(text):
                self._fault(node, f"{found.group()!r} is no word of a chemist's")
        if "\n" in text:
            self._fault(node, "more than one line")

    def _sentence(self, text: str, node: ast.AST) -> None:
        self._words(text, node)
        if text.rstrip().endswith("."):
            self._fault(node, "a full stop at the end")
        first = re.match(r"[A-Za-z]+", text)
        if first and re.fullmatch(r"[A-Z][a-z]+", first.group()):
            self._fault(node, f"a capital at the start: {first.group()}")
        if re.search(r"\bplease\b", text, re.IGNORECASE):
            self._fault(node, "please")
        for quote in re.finditer(QUOTED, text):
            before = text[: quote.start()]
            opened = before.count("(") > before.count(")")
            own = re.findall(rf"[\w{FILLED}]+", before[: before.rindex("(")] if opened else "")
            if len(own) < WORDS_BEFORE_A_QUOTE:
                self._fault(node, "what others say stands in parentheses after words of our own")

    def _fault(self, node: ast.AST, what: str) -> None:
        self.faults.append(f"{getattr(node, 'lineno', 0)}: {what}: {ast.unparse(node)[:200]}")


def pair_functions(tree: ast.Module) -> frozenset[str]:
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    return frozenset(f.name for f in functions if f.returns and ast.unparse(f.returns) == "tuple[str, str]")


def _makes_an_error(function: ast.expr) -> bool:
    """A class of errors by its name, or ``type(error)``."""
    if isinstance(function, ast.Call):
        return ast.unparse(function) == "type(error)"
    return bool(_names(function) & ERRORS) and isinstance(function, ast.Name | ast.Attribute)


def _assigned(block: ast.Module | ast.FunctionDef) -> dict[str, list[ast.expr]]:
    """What is assigned to each name of a function, or of a module outside its functions."""
    found: dict[str, list[ast.expr]] = {}
    waiting: list[ast.AST] = list(block.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            continue
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        value = getattr(node, "value", None)
        for target in targets:
            if isinstance(node, ast.Assign | ast.AnnAssign | ast.NamedExpr) and isinstance(target, ast.Name):
                found.setdefault(target.id, []).extend([value] if isinstance(value, ast.expr) else [])
        waiting += ast.iter_child_nodes(node)
    return found


def _names(node: ast.AST | None) -> set[str]:
    nodes = ast.walk(node) if node is not None else ()
    return {
        n.id if isinstance(n, ast.Name) else n.attr for n in nodes if isinstance(n, ast.Name | ast.Attribute)
    }


def _texts(node: ast.expr, scope: Scope, depth: int = 3) -> list[str]:
    """All that an expression may say, ``FILLED`` and ``QUOTED`` where its values come in."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return [node.value]
    if isinstance(node, ast.JoinedStr):
        parts = [_texts(part, scope, depth) for part in node.values]
        return ["".join(choice) for choice in itertools.product(*parts)]
    if isinstance(node, ast.FormattedValue):
        return _texts(node.value, scope, depth)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        both = itertools.product(_texts(node.left, scope, depth), _texts(node.right, scope, depth))
        return ["".join(choice) for choice in both]
    if isinstance(node, ast.IfExp):
        return _texts(node.body, scope, depth) + _texts(node.orelse, scope, depth)
    if isinstance(node, ast.BoolOp):
        return [text for value in node.values for text in _texts(value, scope, depth)]
    if isinstance(node, ast.Name) and depth and scope.assigned.get(node.id):
        return [text for value in scope.assigned[node.id] for text in _texts(value, scope, depth - 1)]
    return [QUOTED if _of_others(node, scope) else FILLED]


def _of_others(node: ast.expr, scope: Scope, depth: int = 3) -> bool:
    """Whether a value is what another library's exception says, or the name of a Python type."""
    if isinstance(node, ast.Attribute) and node.attr in ("where", "what", "remedy"):
        return False
    names = _names(node)
    if names & scope.caught or names & {"__name__", "__class__"}:
        return True
    values = [value for name in names if depth for value in scope.assigned.get(name, [])]
    return any(_of_others(value, scope, depth - 1) for value in values)


def _unpacked(node: ast.expr, scope: Scope, pairs: frozenset[str]) -> Iterator[list[ast.expr] | None]:
    """The texts that a starred expression may stand for; None for a pair that a function returns."""
    if isinstance(node, ast.Tuple):
        yield node.elts
    elif isinstance(node, ast.IfExp):
        yield from _unpacked(node.body, scope, pairs)
        yield from _unpacked(node.orelse, scope, pairs)
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in pairs:
        yield None
    elif isinstance(node, ast.Name):
        for value in scope.assigned.get(node.id, []):
            yield from _unpacked(value, scope, pairs)
