"""docs/options.md (printed by autosp-opt) against the options that the backend reads."""

import dataclasses
import pathlib

from autosp.options import Options

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "options.md"


def rows():
    """name -> cells, of the tables of options (flags start with a dash)."""
    result = {}
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip().replace("\\|", "|") for cell in line.replace("\\|", "\0").strip("|").split("|")]
        cells = [cell.replace("\0", "|") for cell in cells]
        if cells[0].startswith("`") and not cells[0].startswith("`-"):
            result[cells[0].strip("`")] = cells
    return result


def test_page_lists_every_option_and_no_other():
    assert sorted(rows()) == sorted(field.name for field in dataclasses.fields(Options))


def test_rows_of_the_backend_say_what_the_backend_says():
    page = rows()
    text = PAGE.read_text(encoding="utf-8")
    backend_only = text[text.index("## Further options of the Python backend") :]
    for field in dataclasses.fields(Options):
        if f"| `{field.name}` |" not in backend_only:
            continue
        assert page[field.name][1:] == [f"`{field.default!r}`", field.metadata["allowed"], field.metadata["text"]]
