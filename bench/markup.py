"""YAML 1.2 with the core schema: `1e-3` is a number, but `no` and `1:30` are text."""

import re
from collections.abc import Hashable
from typing import Any

import yaml

from bench.errors import UserError

LONGEST = 1_000_000  # characters
MOST_VALUES = 100_000  # with aliases expanded
DEEPEST = 50

_FLOAT = re.compile(
    r"[-+]?(\.\d+|\d+(\.\d*)?)([eE][-+]?\d+)?$|[-+]?\.(inf|Inf|INF)$|\.(nan|NaN|NAN)$"
)
_RESOLVERS = (
    ("null", re.compile(r"(~|null|Null|NULL|)$"), ["~", "n", "N", ""]),
    ("bool", re.compile(r"(true|True|TRUE|false|False|FALSE)$"), list("tTfF")),
    ("int", re.compile(r"([-+]?\d+|0o[0-7]+|0x[0-9a-fA-F]+)$"), list("-+0123456789")),
    ("float", _FLOAT, list("-+.0123456789")),
    ("merge", re.compile(r"<<$"), ["<"]),
)


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        """Refuse a duplicate key."""
        seen = set()
        for key, _ in node.value:
            if key.value in seen and isinstance(key, yaml.ScalarNode) and key.value != "<<":
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value!r} is a duplicate", key.start_mark
                )
            if isinstance(key, yaml.ScalarNode):
                seen.add(key.value)
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """Quotes text that YAML 1.1 or 1.2 would read as another type."""


for _name, _pattern, _first in _RESOLVERS:
    _tag = f"tag:yaml.org,2002:{_name}"
    _Loader.add_implicit_resolver(_tag, _pattern, _first)
    _Dumper.add_implicit_resolver(_tag, _pattern, _first)


def _integer(loader: _Loader, node: yaml.ScalarNode) -> int:
    text = node.value
    return int(text, 0) if text[:2] in ("0o", "0x") else int(text)


_Loader.add_constructor("tag:yaml.org,2002:int", _integer)


def read(text: str, origin: str) -> Any:
    """Read YAML from an untrusted source.

    Args:
        text: what to read.
        origin: names it in errors.

    Raises:
        UserError: invalid YAML, a duplicate key, or content that is too long or nested too deep.
    """
    if len(text) > LONGEST:
        raise UserError(f"{origin}: longer than {LONGEST:,} characters")
    loader = None
    try:
        loader = _Loader(text)  # reads the first characters
        node = loader.get_single_node()
        if node is None:
            return None
        _measure(node, {}, 0)
        return loader.construct_document(node)
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(f"{origin}: not valid YAML ({' '.join(str(error).split())})") from None
    except RecursionError:
        raise UserError(f"{origin}: nested more than {DEEPEST} deep") from None
    finally:
        if loader is not None:
            loader.dispose()


def _measure(node: yaml.Node, known: dict[int, int], depth: int) -> int:
    """Count the values of a node with its aliases expanded; refuse too many."""
    if depth > DEEPEST:
        raise RecursionError
    if id(node) not in known:
        known[id(node)] = MOST_VALUES  # for a node that contains itself
        inner: list[yaml.Node] = []
        if isinstance(node, yaml.SequenceNode):
            inner = node.value
        elif isinstance(node, yaml.MappingNode):
            inner = [part for pair in node.value for part in pair]
        known[id(node)] = 1 + sum(_measure(part, known, depth + 1) for part in inner)
    if known[id(node)] > MOST_VALUES:
        raise ValueError(f"more than {MOST_VALUES:,} values once its aliases are expanded")
    return known[id(node)]


def write(content: Any) -> str:
    """Write plain data as YAML that versions 1.1 and 1.2 read alike."""
    return yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
