"""Tables to copy: read by other parsers, they hold what is shown, whatever the names."""

import pandas as pd
from markdown_it import MarkdownIt

from dashboard import copying

EVIL = "a|b <script> **c** 50% $x_1$ \\ & #"
TABLE = pd.DataFrame(
    {
        "method": ["tv", EVIL],
        "psnr": [23.456, None],
        "tied": pd.array([True, None], "boolean"),
        "steps": [12345, None],
    }
)
TEXTS = copying.as_texts(TABLE, {"psnr": "%.2f", "steps": "localized"})


def test_values_are_written_as_they_are_shown() -> None:
    assert TEXTS.to_numpy().tolist() == [["tv", "23.46", "True", "12,345"], [EVIL, "", "", ""]]


def test_a_parser_of_markdown_finds_the_same_cells() -> None:
    tokens = MarkdownIt("gfm-like", {"linkify": False}).parse(copying.as_markdown(TEXTS))
    cells = [
        "".join(child.content for child in token.children or [])
        for token in tokens
        if token.type == "inline"
    ]
    assert cells == [*TEXTS, *TEXTS.to_numpy().ravel()]
    assert not any(token.type.startswith("html") for token in tokens)


def test_latex_has_no_special_character_left_alone() -> None:
    lines = copying.as_latex(TEXTS).splitlines()
    (line,) = (line for line in lines if "script" in line)
    assert line.count("&") - line.count("\\&") == 3  # of four columns
    for special in "%$_#":
        assert line.count(special) == line.count(f"\\{special}")
    assert "\\toprule" in lines
