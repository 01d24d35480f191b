"""YAML as workflow files have it, the core schema of version 1.2: read from text and written.

PyYAML reads version 1.1, in which ``no`` and ``on`` are switches, ``1:30`` is ninety, ``010`` is eight and
``1e-3`` is text. Here only ``true`` and ``false`` are switches, and every key is the word that stands there.
"""

from __future__ import annotations

import codecs
import re
from pathlib import Path
from typing import Any

import yaml
from yaml import YAMLError

__all__ = ["YAMLError", "dump", "load", "read_text"]

_TAG = "tag:yaml.org,2002:"
_CORE: tuple[tuple[str, str, str], ...] = (
    ("null", r"(?:~|null|Null|NULL|)$", "~nN"),
    ("bool", r"(?:true|True|TRUE|false|False|FALSE)$", "tTfF"),
    ("int", r"(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$", "-+0123456789"),
    ("float", r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$", "-+.0123456789"),
    ("float", r"(?:[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$", "-+."),
    ("merge", r"<<$", "<"),
)
"""What a plain scalar is, by a pattern and the characters it may start with; all else is text."""


_KINDS = {"null", "bool", "int", "float", "merge", "str", "seq", "map"}
"""All that a value can be."""


class _Loader(yaml.SafeLoader):
    """Scalars of the core schema, keys that are words, and no key twice; plain YAML forgets the first."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}

    def compose_node(self, parent: yaml.Node | None, index: object) -> yaml.Node | None:
        node: yaml.Node | None = super().compose_node(parent, index)  # type: ignore[arg-type]
        if node is not None and node.tag.removeprefix(_TAG) not in _KINDS:
            raise _refusal(node, f"a value starts with {_marked(node.tag)}, a type of its own", "take it out")
        return node

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key, value in node.value:  # before keys of others are merged into it
            _check_key(key, value)
            if key.value in seen:
                raise _refusal(key, f"{key.value} is given twice", "take one of the two out")
            seen.add(key.value)
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        self.flatten_mapping(node)
        for key, _ in node.value:
            key.tag = _TAG + "str"
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """Text that either version of YAML would take for something else is put in quotes."""


def _check_key(key: yaml.Node, value: yaml.Node) -> None:
    """Refuse a key in brackets, one after a space that is no space, and ``{steps:300}``, which is all key."""
    if not isinstance(key, yaml.ScalarNode):
        raise _refusal(
            key, "a key is in brackets, where a word belongs", "put a value in quotes if it has any"
        )
    if key.style is None and key.value != key.value.strip():
        raise _refusal(key, "a key starts with a space that is not a plain one", "type the spaces anew")
    swallowed = key.style is None and re.match(r"[\w.-]+:.", key.value)
    if swallowed and isinstance(value, yaml.ScalarNode) and value.value == "" and value.style is None:
        raise _refusal(key, f"there is no space after the colon of `{key.value}`", "write `key: value`")


def _marked(tag: str) -> str:
    """A tag as it is written."""
    return f"!!{tag.removeprefix(_TAG)}" if tag.startswith(_TAG) else tag


def _refusal(node: yaml.Node, what: str, remedy: str) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=what, problem_mark=node.start_mark, note=remedy)


def _integer(loader: _Loader, node: yaml.ScalarNode) -> int:
    """A decimal number, leading zeros or not, or one marked as octal or hexadecimal."""
    text = str(loader.construct_scalar(node))
    base = {"0o": 8, "0x": 16}.get(text[:2], 10)
    try:
        return int(text, base)
    except ValueError:
        what = (
            "a number has too many digits" if text.lstrip("+-").isdigit() else f"{text!r} is no whole number"
        )
        raise _refusal(node, what, "give another") from None


for _name, _pattern, _first in _CORE:
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(
            _TAG + _name, re.compile(_pattern), [*_first, *([""] * (_name == "null"))]
        )
_Loader.add_constructor(_TAG + "int", _integer)


def load(text: str) -> Any:
    """What a YAML document says. Raises YAMLError (`boltzgen.config.yaml_problems` tells it in words)."""
    try:
        return yaml.load(text, _Loader)
    except RecursionError:
        raise YAMLError("brackets are nested too deeply") from None
    except (ValueError, KeyError) as error:  # after a type that was written before a value
        raise YAMLError(f"a value is not of the type that stands before it ({error})") from None


def dump(document: object) -> str:
    """A document that `load` reads back as it was, in the order of its keys."""
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False)


def read_text(path: Path) -> str:
    """A text file in UTF-8, or in what an editor of Windows marks as UTF-16. Raises OSError, UnicodeError."""
    content = path.read_bytes()
    wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return content.decode("utf-16" if wide else "utf-8-sig")
