"""The one exception that AutoSP raises for anything a user, a graph or a machine can cause."""

from __future__ import annotations

import functools
from typing import Any


class AutoSPError(RuntimeError):
    """A refusal or failure with a code, a source line and a fix; `str()` is the form shown in docs/errors.md.

    diagnostics: one dict per problem: code ("ASP0201"), message, file, line, function, subject, notes, hint.
    """

    def __init__(self, text: str, diagnostics: list[dict[str, Any]] | tuple = ()):
        super().__init__(text)
        self.diagnostics = list(diagnostics)

    @property
    def code(self) -> str:
        """The code of the first problem, "ASP0201"."""
        return self.diagnostics[0]["code"] if self.diagnostics else ""


@functools.cache
def _code_numbers() -> dict[str, int]:
    from autosp import _core

    return {row["name"]: int(row["number"]) for row in _core.diagnostic_codes()}


def make_error(
    code_name: str,
    message: str,
    *,
    notes: list[str] | tuple = (),
    hint: str = "",
    file: str = "",
    line: int = 0,
    subject: str = "",
) -> AutoSPError:
    """The error for a code of diagnostic_codes.def ("kNoTaggedInput"), formatted by the C++ side."""
    from autosp import _core

    text, diagnostic = _core.make_diagnostic(
        _code_numbers()[code_name], message, notes=list(notes), hint=hint, file=file, line=line, subject=subject
    )
    return AutoSPError(text, [diagnostic])
