"""What is wrong with a text that is not YAML: the line, the likely cause, and what to do."""

from __future__ import annotations

import re
from dataclasses import dataclass

from yaml import Mark, YAMLError

_NO_SPACE = re.compile(r"""\s*(?:- )?[\w.-]+:[^\s:/\\]""")
_ALIGN = "indent the keys of one section alike"
_QUOTE = "put it in quotes"


@dataclass(frozen=True)
class Problem:
    """Line, counted from 1 (None where it is not known), cause and remedy."""

    line: int | None
    what: str
    remedy: str


def explained(error: YAMLError, text: str) -> Problem:
    """What an error of `boltzgen.runtime.yaml_files.load` comes from."""
    said = str(getattr(error, "problem", None) or getattr(error, "reason", None) or error).partition("\n")[0]
    at, since = (_line(getattr(error, name, None)) for name in ("problem_mark", "context_mark"))
    lines = text.splitlines()
    if at is None and isinstance(position := getattr(error, "position", None), int):
        at = text.count("\n", 0, position) + 1
    if remedy := getattr(error, "note", None):
        return Problem(at, said, remedy)
    for number in sorted({n for n in (at, since, (at or 0) - 1) if n and 0 < n <= len(lines)}):
        if found := _visible(lines[number - 1], number):
            return found
    if "expected ':'" in said:
        at = since
    if "found '<stream end>'" in said:
        at = max((n for n, line in enumerate(lines, 1) if set("[{") & set(line)), default=at)
    if "mapping values are not allowed" in said and at is not None:
        at = _cause(lines, at)
    if since is not None and (opened := _opened(said, since)):
        return opened
    return _of_line(said, at, lines[at - 1] if at and at <= len(lines) else "")


def _line(mark: Mark | None) -> int | None:
    return None if mark is None else mark.line + 1


def _visible(line: str, number: int) -> Problem | None:
    """Mistakes that can be seen in a line, whatever the parser stumbled over."""
    indent = line[: len(line) - len(line.lstrip())]
    if "\t" in indent:
        return Problem(number, "starts with a tab", "indent with spaces")
    if not indent.isascii():
        return Problem(number, "starts with a space that is not a plain one", "type the spaces anew")
    if _NO_SPACE.match(line) and ": " not in line.partition("#")[0]:
        return Problem(number, f"no space after the colon of {_short(line)}", "write `key: value`")
    return None


def _opened(said: str, since: int) -> Problem | None:
    """Brackets and quotes that nothing closes; their line is where they open."""
    for bracket, closing in ("[]", "{}"):
        if f"expected ',' or '{closing}'" in said:
            what = f"the bracket {bracket} that opens here is not closed, or a comma is missing in it"
            return Problem(since, what, f"close it with {closing}")
    if "found unexpected end of stream" in said or "found unexpected document separator" in said:
        return Problem(since, "the quote that opens here is not closed", "close it on the same line")
    return None


def _of_line(said: str, at: int | None, line: str) -> Problem:
    """By what the parser says."""
    if "found '<stream end>'" in said:
        return Problem(at, "a bracket that opens here is not closed", "close it")
    if "cannot start any token" in said and (character := re.search(r"character '(.+?)'", said)):
        return Problem(at, f"a value starts with {character[1]}, which YAML keeps for itself", _QUOTE)
    if (
        "undefined alias" in said
        or "could not determine a constructor" in said
        or re.search(r"\btag\b", said)
    ):
        return Problem(at, "a value starts with *, & or !, which YAML keeps for itself", _QUOTE)
    if "found '}'" in said or "found ']'" in said:
        return Problem(at, "a bracket is closed that was not opened", "take it out")
    misplaced = ("mapping values are not allowed", "expected ':'", "expected <block end>")
    if any(words in said for words in misplaced):
        return Problem(at, *_misplaced(said, line))
    if "found another document" in said:
        return Problem(at, "a second document starts (---)", "keep one workflow in a file")
    if "unknown escape" in said:
        return Problem(at, "a backslash in double quotes starts a special character", "use single quotes")
    if "special characters are not allowed" in said:
        return Problem(at, "holds a control character", "save it as plain text")
    return Problem(at, f"not valid YAML ({said})", "mend that line" if at else "mend it")


def _cause(lines: list[str], at: int) -> int:
    """The line that is at fault where one with a colon comes as a surprise: one before it may have none."""
    before = [n for n in range(1, at) if lines[n - 1].strip() and not lines[n - 1].lstrip().startswith("#")]
    single = lines[at - 1].count(": ") + lines[at - 1].rstrip().endswith(":") <= 1
    return before[-1] if single and before and ":" not in lines[before[-1] - 1] else at


def _misplaced(said: str, line: str) -> tuple[str, str]:
    """Cause and remedy of a line that does not fit to those before it."""
    body = line.strip()
    if "found '-'" in said or "found '<block sequence" in said:
        return "a list item (`- `) stands among `key: value` lines", "indent it below the key it belongs to"
    if "found '?'" in said:
        return "a `key: value` line stands among list items or is indented less than those before it", _ALIGN
    if "found '<scalar>'" in said and re.search("[\"'] *[^\"',:]", body):
        return "more text follows a value in quotes", "put all of it in one pair of quotes"
    if ":" not in body:
        return f"{_short(body)} is no `key: value` line", "write a colon and a space after the key"
    if body.count(": ") > 1:
        return "there is a second colon", "put the value in quotes if the colon belongs to it"
    return "is indented unlike the lines before it", _ALIGN


def _short(line: str) -> str:
    """The start of a line, to be quoted."""
    body = line.strip()
    return f"`{body[:37]}...`" if len(body) > 40 else f"`{body}`"
