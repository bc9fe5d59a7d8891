"""Text on a command line: what Hydra makes of it, and how it is quoted."""

from __future__ import annotations

import shlex

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from mfnet.setup.compose import Source, compose
from mfnet.setup.errors import SettingError
from mfnet.setup.typed import meant, typed, unread

TEXTS = [
    *("TRUE", "false", "null", "1_1", "1.0", "1e3", "-3", "+4", "nan", "inf", "0x10", "010", "~"),
    *(
        ">50K",
        "<=50K",
        ";",
        ":",
        "é",
        "a b",
        "a,b",
        "[a]",
        "{a: 1}",
        "(a)",
        'say "x"',
        "it's",
        "a\\",
        'a\\"',
        "$",
        "#",
        "",
    ),
]


def read(override):
    """As Hydra reads what a shell has read."""
    (word,) = shlex.split(override)
    return OverridesParser.create().parse_override(word).value()


@pytest.mark.parametrize("text", TEXTS)
def test_what_is_typed_stands_for_the_text(text):
    """It is read as the text, or as a value that means it."""
    (value,) = read(typed("k", [text]))
    assert meant(value, [text]) == [text]
    assert read(typed("k", [text], quoted=True)) == [text]


def test_texts_are_typed_in_a_list():
    assert read(typed("k", TEXTS)) == TEXTS
    assert typed("k", ["a", "b c", "d-1.5"]) == "'k=[a,b c,d-1.5]'"


@pytest.mark.parametrize("text", [text for text in TEXTS if text])
def test_a_text_that_is_read_means_itself(text):
    """Whatever it becomes without quotation marks, where it can be read so."""
    try:
        value = OverridesParser.create().parse_override(f"k={text}").value()
    except HydraException:
        return
    if isinstance(value, str | int | float | None):
        assert meant(value, [text, "other"]) == [text]


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("data.positive=[>50K]", [">50K"]),
        ("data.positive=[>50K,<=50K,a]", [">50K", "<=50K", "a"]),
        ("data.positive=[;]", [";"]),
        ("data.positive=[ä]", ["ä"]),
        ("data.source.separator=;", ";"),
        ("data.source.decimal=,", ","),
        ("data.source.file=Größe.csv", "Größe.csv"),
        ("data.source.file=a (1).csv", "a (1).csv"),
        ("+data.source.label=x=>y", "x=>y"),
    ],
)
def test_the_error_shows_how_a_value_is_quoted(override, expected):
    with Source().opened(), pytest.raises(SettingError, match="cannot be read; quote it: ") as told:
        compose([override])
    message, _, quoted = str(told.value).partition("; quote it: ")
    assert message == f"{override}: cannot be read"
    assert read(quoted) == expected


@pytest.mark.parametrize("override", ["alpha", "alpha=[1", "alpha='1", "alpha=choice("])
def test_what_no_quotation_marks_mend_is_told_as_hydra_does(override):
    message = unread(override, HydraException("no viable\nalternative"))
    assert message == f"{override}: cannot be read: no viable alternative"
