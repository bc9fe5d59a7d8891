"""Text as it is typed on a command line, where Hydra takes some of it for numbers, for true, false or null."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

#: Text that may be null, true or false once it is read, in lower case.
_WORDS = {None: ("null", "~"), True: ("true", "yes", "on"), False: ("false", "no", "off")}

_FURTHER = " See https://hydra.cc/docs/1.2/advanced/override_grammar/basic for details"


def meant(value: object, texts: Iterable[str]) -> list[str]:
    """Those of some texts that may have become ``value``: itself if it is text, else all that are read as it.

    >>> meant(True, ["TRUE", "FALSE"]), meant(11, ["11", "1_1"]), meant("TRUE", ["true"])
    (['TRUE'], ['11', '1_1'], [])
    """
    if isinstance(value, str):
        return [text for text in texts if text == value.strip()]
    return [text for text in texts if _read_as(text, value)]


def _read_as(text: str, value: object) -> bool:
    if value is None or isinstance(value, bool):
        return text.lower() in _WORDS[value]
    for kind in (int, float):
        try:
            number = kind(text)
        except ValueError:
            continue
        return bool(number == value) or str(number) == str(value)  # NaN is not equal to itself
    return False


def typed(key: str, texts: Sequence[str], *, quoted: bool = False) -> str:
    """How a list of texts is typed in a shell: quoted where Hydra could not read it.

    Args:
        key: Name of the setting.
        texts: The texts.
        quoted: Whether each is quoted, so that it stays text whatever it may look like.

    >>> print(typed("data.positive", [">50K"]))
    'data.positive=[">50K"]'
    """
    plain = not quoted and all(re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_. -]*(?<! )", text) for text in texts)
    return shlex.quote(f"{key}=[{','.join(texts if plain else map(_quoted, texts))}]")


def _quoted(text: str) -> str:
    """Text in quotation marks, as Hydra has them."""
    return '"' + re.sub(r'(\\*)("|$)', lambda found: found[1] * 2 + (r"\"" if found[2] else ""), text) + '"'


def unread(override: str, error: HydraException) -> str:
    """What is said of a setting that Hydra cannot read: how it is quoted, if that helps."""
    message = " ".join(str(error).split()).removesuffix(_FURTHER)
    key, _, value = override.partition("=")
    inner = "".join(
        part if part in "[]," or _can_be_read(f"k={part}") else _quoted(part.strip())
        for part in re.split(r"([\[\],])", value)
    )
    for candidate in (inner, _quoted(value)) if "[" not in value else (inner,):
        if not re.search(r"[\"']|^$|^\w+\(", value) and _can_be_read(f"{key}={candidate}"):
            return f"{override}: cannot be read; quote it: {shlex.quote(f'{key}={candidate}')}"
    return f"{override}: cannot be read: {message}"


def _can_be_read(override: str) -> bool:
    try:
        OverridesParser.create().parse_override(override)
    except HydraException:
        return False
    return True
