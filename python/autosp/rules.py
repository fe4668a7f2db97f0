"""Sharding rules that a user adds for operations of their own."""

from __future__ import annotations

_rows: dict[str, str] = {}


def register_rule(name: str, rule: str, parameters: str = "") -> None:
    """Adds a row to the sharding rule table for every graph compiled from now on; replaces a row of the same name.

    register_rule("mylib::norm", "(b, s, d), (d) -> (b, s, d); whole d")   # the notation of docs/sharding-rules.md

    `parameters` names the arguments, in schema order, where the operation is called with keywords:
    register_rule("mylib::gate", "(*, d), (d)? -> (*, d)", parameters="x, weight").
    """
    name = name.replace("::", ".")
    _rows[name] = f"{name}({parameters}): {rule}"


def text() -> str:
    """The registered rows, one per line, in the order of their names."""
    return "\n".join(_rows[name] for name in sorted(_rows))
