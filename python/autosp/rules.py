"""Sharding rules that a user adds for operations of their own."""

from __future__ import annotations

_rows: dict[str, str] = {}


def register_rule(name: str, parameters: str, rule: str) -> None:
    """Adds a row to the sharding rule table for every graph compiled from now on; replaces a row of the same name.

    register_rule("mylib.gate", "x, weight", "(*, d), (d) -> (*, d)")   # the notation of docs/sharding-rules.md
    """
    _rows[name] = f"{name}({parameters}): {rule}"


def text() -> str:
    """The registered rows, one per line, in the order of their names."""
    return "\n".join(_rows[name] for name in sorted(_rows))
