"""Tool poisoning: text that tells models something else than it tells people.

Everything that a model reads of a server is looked at: names, titles, descriptions, schemas to their last default,
and instructions. A text is compared in its plain forms, so that a disguise of letters is none. What is said in other
words than the table's, or in another language than English, is not caught: people read the difference, too.
"""

from __future__ import annotations

import base64
import binascii
import html
import re
import unicodedata
from collections.abc import Iterator
from typing import Any, Final, NamedTuple
from urllib.parse import unquote

from pegboard.core.check.model import Subject
from pegboard.core.check.phrases import ASKED_NAMES, PHRASES, SECRET_NAMES
from pegboard.core.check.rules import RULES
from pegboard.core.manifest import FILE_NAME
from pegboard.core.publishing import Finding, Severity
from pegboard.core.release import ToolDeclaration
from pegboard.core.text import HIDING, hidden_in, latin_twin, mixed_in

LONGEST_TEXT: Final = 20_000
MOST_DECODED: Final = 3
"""Encodings inside one another that are undone."""

_LAYERS: Final = re.compile(r"[ \u00a0\u3000]{100}\S|\n(?:[ \t]*+\n){10}[ \t]*+\S|\t{20}\S")
_ADDRESS: Final = re.compile(r"\b(?:https?|wss?|ftp)://(?:[^\s/@]{1,64}@)?(?P<host>[A-Za-z0-9.-]{1,253})")
_NO_ADDRESS: Final = re.compile(
    r"(?i)(?:^|\.)(?:example|example\.(?:com|org|net)|test|invalid|localhost)$|^127\.|json-schema\.org$"
)
_BASE64: Final = re.compile(r"(?<![A-Za-z0-9+/_-])[A-Za-z0-9+/_-]{20,}={0,2}(?![A-Za-z0-9+/_=-])")
_HEX: Final = re.compile(
    r"(?:[0-9A-Fa-f]{2}[ :]?){12,}|(?:\\x[0-9A-Fa-f]{2}){6,}|(?:\\u[0-9A-Fa-f]{4}){6,}|(?:&#x?[0-9A-Fa-f]{2,6};){6,}"
)
_PERCENT: Final = re.compile(r"(?:%[0-9A-Fa-f]{2}[A-Za-z0-9]{0,2}){6,}")
_SPACED: Final = re.compile(r"\b(?:[A-Za-z][ .\-_*]){4,}[A-Za-z]\b")
_WORD: Final = re.compile(r"[^\W\d_]+(?:'[a-z]+)?")
_LEET: Final = tuple(str.maketrans("0134579@$!", letters) for letters in ("oieastgasi", "oleastgasl"))
_BIDI: Final = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


class Said(NamedTuple):
    """A text that models read.

    Attributes:
        where: of which tool's what.
        place: file and line.
        tool: empty for the server's own.
        name: whether it is a name, of a tool or an argument.
    """

    where: str
    place: str
    tool: str
    text: str
    name: bool = False


def findings(subject: Subject) -> Iterator[Finding]:
    """What models would read and people would not, or not so."""
    told: set[tuple[str, str, str]] = set()
    listed = list(texts(subject))
    for finding in (each for said in listed for each in _of_text(said, subject)):
        yield finding
        told.add((finding.code, finding.place, ""))
    yield from _together(listed, {(code, place) for code, place, _ in told})
    yield from _names(subject)
    yield from _in_files(subject)


def texts(subject: Subject) -> Iterator[Said]:
    """Every text of a declaration that a model reads."""
    declaration = subject.declaration
    manifest = declaration.manifest
    yield Said("title", FILE_NAME, "", manifest.title or "")
    yield Said("description", FILE_NAME, "", manifest.description)
    yield Said("instructions", FILE_NAME, "", declaration.instructions)
    for tool in declaration.tools:
        place = subject.place_of(tool.name)
        yield Said(f"tool {tool.name!r}, name", place, tool.name, tool.name, name=True)
        yield Said(f"tool {tool.name!r}, title", place, tool.name, tool.title or "")
        yield Said(f"tool {tool.name!r}, description", place, tool.name, tool.description)
        yield Said(f"tool {tool.name!r}, confirmation", place, tool.name, tool.confirmation or "")
        yield Said(f"tool {tool.name!r}, approval", place, tool.name, tool.approval.why if tool.approval else "")
        for part, schema in (("input_schema", tool.input_schema), ("output_schema", tool.output_schema)):
            for where, text, name in _in_schema(schema):
                yield Said(f"tool {tool.name!r}, {part}{where}", place, tool.name, text, name)


_PLAIN_KEYS: Final = frozenset(
    {"type", "$ref", "format", "pattern", "$schema", "contentMediaType", "contentEncoding"}
)


def _in_schema(schema: Any) -> Iterator[tuple[str, str, bool]]:
    """Each text with its pointer and whether it is a name; keywords of JSON Schema are no texts."""
    waiting: list[tuple[str, Any, bool]] = [("", schema, False)]
    while waiting:
        where, value, names = waiting.pop()
        if isinstance(value, str):
            yield where, value, False
        elif isinstance(value, list):
            waiting += [(f"{where}/{number}", each, False) for number, each in reversed(list(enumerate(value)))]
        elif isinstance(value, dict):
            for key, each in reversed(value.items()):
                below = f"{where}/{key[:64]}"
                if names or not re.fullmatch(r"[$A-Za-z]{1,24}", key):
                    yield below, key, True
                if key not in _PLAIN_KEYS or names:
                    waiting.append(
                        (
                            below,
                            each,
                            key in ("properties", "$defs", "definitions", "patternProperties") and not names,
                        )
                    )


def _of_text(said: Said, subject: Subject) -> Iterator[Finding]:
    text = said.text[:LONGEST_TEXT]
    if not text:
        return
    if hidden := hidden_in(text, lines=True) or ("spells bytes in tags" if tags_of(text) else ""):
        yield RULES["PB602"].at(said.place, f"{said.where}: {hidden}")
    if _LAYERS.search(text):
        yield RULES["PB602"].at(said.place, f"{said.where}: pushes what follows out of sight with blanks")
    if mixed := mixed_in(text):
        yield RULES["PB607"].at(said.place, f"{said.where}: {mixed.partition(': ')[0]}")
    found: set[str] = set()
    for form in plain_forms(text):
        for phrase in PHRASES:
            if phrase.what not in found and (match := phrase.pattern.search(form)):
                found.add(phrase.what)
                what = f"{said.where} {phrase.what}: {_quoted(match[0])}"
                yield RULES[phrase.code].at(said.place, what, severity=phrase.severity)
    for hidden_text in decoded(text):
        yield RULES["PB605"].at(said.place, f"{said.where} holds an encoded text: {_quoted(hidden_text)}")
    yield from _others(said, text, subject)
    yield from _addresses(said, text, subject)


def _quoted(text: str) -> str:
    return repr(ascii(text[:80])[1:-1])


def _others(said: Said, text: str, subject: Subject) -> Iterator[Finding]:
    """Another server's tool, by a name that no ordinary word is."""
    own = {tool.name for tool in subject.declaration.tools}
    named = {word.strip(".-") for word in re.findall(r"[A-Za-z0-9_.-]{4,64}", text)}
    for server in subject.others:
        if server.name.rpartition("/")[2] == subject.declaration.manifest.name:
            continue
        for tool in server.tools:
            if tool in named and tool not in own and re.search(r"[_.\d-]|[a-z][A-Z]", tool):
                whose = server.name if server.told else "another server"
                yield RULES["PB603"].at(said.place, f"{said.where} names {tool!r}, a tool of {whose}")


def _addresses(said: Said, text: str, subject: Subject) -> Iterator[Finding]:
    manifest = subject.declaration.manifest
    known = {place.rpartition(":")[0].lower() for place in manifest.egress}
    known |= {found["host"].lower() for link in manifest.links.values() for found in _ADDRESS.finditer(link)}
    for found in _ADDRESS.finditer(text):
        host = found["host"].lower().strip(".")
        if host not in known and not _NO_ADDRESS.search(host):
            yield RULES["PB608"].at(said.place, f"{said.where} names {host}")


def _together(listed: list[Said], told: set[tuple[str, str]]) -> Iterator[Finding]:
    """What is said by several texts of one tool, or of several tools, each of which says nothing by itself."""
    groups: dict[tuple[str, str], list[str]] = {}
    for said in listed:
        if said.text and not said.name:
            groups.setdefault((said.tool, said.place), []).append(said.text[:LONGEST_TEXT])
    for (tool, place), parts in groups.items():
        form = plain(" ".join(parts)) if len(parts) > 1 else ""
        for phrase in PHRASES:
            if (
                phrase.severity is None
                and (phrase.code, place) not in told
                and (match := phrase.pattern.search(form))
            ):
                what = f"the texts of tool {tool!r} together {_plural(phrase.what)}: {_quoted(match[0])}"
                yield RULES[phrase.code].at(place, what, severity=Severity.WARNING)


def _plural(what: str) -> str:
    first, _, rest = what.partition(" ")
    return f"say what {first} {rest}"


def _names(subject: Subject) -> Iterator[Finding]:
    for tool in subject.declaration.tools:
        yield from _arguments(tool, subject.place_of(tool.name))


def _arguments(tool: ToolDeclaration, place: str) -> Iterator[Finding]:
    for where, text, name in _in_schema(tool.input_schema):
        if name and "/properties/" in where:
            form = re.sub(r"(?<=[a-z])(?=[A-Z])|[\s.-]+", "_", text).lower()
            if ASKED_NAMES.search(form):
                what = f"tool {tool.name!r}: argument {text[:64]!r} asks a model for what it knows"
                yield RULES["PB604"].at(place, what)
            elif SECRET_NAMES.search(form):
                what = f"tool {tool.name!r}: argument {text[:64]!r} asks for a secret"
                fix = "A server has its secrets under [secrets]; a caller's own are none of a model's."
                yield RULES["PB604"].at(place, what, fix, Severity.WARNING)


def _in_files(subject: Subject) -> Iterator[Finding]:
    """Code and policies that read otherwise than they run (CVE-2021-42574, Trojan Source)."""
    for name in sorted(subject.files):
        if not name.endswith((".py", ".cedar", ".toml")):
            continue
        text = subject.files[name][: 1024 * 1024].decode("utf-8", "replace")
        if text.isascii():
            continue
        for number, line in enumerate(text.splitlines(), 1):
            strange = [each for each in line if not each.isascii() and unicodedata.category(each) in HIDING]
            if strange:
                bidi = any(each in _BIDI for each in strange)
                severity = None if bidi or not name.endswith(".py") else Severity.WARNING
                what = f"the line holds the invisible character U+{ord(strange[0]):04X}"
                yield RULES["PB602"].at(f"{name}:{number}", what, severity=severity)


def plain(text: str) -> str:
    """A text without disguise: compatible forms, look-alikes, case, what does not show, and blanks made one."""
    shown = "".join(
        "" if unicodedata.category(each) in HIDING and each not in "\n\t\r" else latin_twin(each) or each
        for each in unicodedata.normalize("NFKC", text)
    )
    marked = unicodedata.normalize("NFD", shown)
    flat = "".join(each for each in marked if unicodedata.category(each) != "Mn").casefold()
    flat = flat.replace("\u2019", "'").replace("\u2018", "'").replace("`", "")
    return re.sub(r"[^\S\n]+", " ", flat)


def plain_forms(text: str) -> list[str]:
    """Every reading of a text: as it is, without blanks between letters, without digits for letters, tags decoded."""
    base = plain(text)
    forms = [base, base.replace("\n", " "), re.sub(r"[_*~|]+", " ", base)]
    forms.append(_SPACED.sub(lambda found: re.sub(r"[ .\-_*]", "", found[0]), base))
    forms += [_without_digits(base, table) for table in _LEET]
    forms.append(plain(_unescaped(text)))
    if tags := tags_of(text):
        forms.append(plain(tags))
    forms += [plain(each) for each in decoded(text)]
    return list(dict.fromkeys(forms))


def _without_digits(text: str, table: dict[int, int]) -> str:
    return _LEETED.sub(lambda found: found[0].translate(table), text)


def _unescaped(text: str) -> str:
    """A text with its escapes undone, as a model reads them: `\\u0041`, `\\x41`, `&#65;`, `%41`."""
    if not any(sign in text for sign in ("\\", "&", "%")):
        return text
    undone = re.sub(r"\\(?:u([0-9A-Fa-f]{4})|x([0-9A-Fa-f]{2}))", lambda f: _character(int(f[1] or f[2], 16)), text)
    return unquote(html.unescape(undone))


_LEETED: Final = re.compile(r"\b(?=[a-z@$!]{0,24}[0-9@$!])(?=[0-9@$!]{0,24}[a-z])[a-z0-9@$!]{3,24}\b")


def tags_of(text: str) -> str:
    """What Unicode tags and variation selectors spell (they show nothing, and models read them)."""
    if text.isascii():
        return ""
    found = []
    for each in text:
        code = ord(each)
        if 0xE0020 <= code <= 0xE007E:
            found.append(chr(code - 0xE0000))
        elif 0xE0100 <= code <= 0xE01EF:
            found.append(chr(code - 0xE0100 + 16))
    return "".join(found)


def decoded(text: str, depth: int = MOST_DECODED) -> list[str]:
    """Texts that stand in a text in base64, hexadecimal, escapes or percents, and in those again."""
    found = [each for each in (*_from_base64(text), *_from_hex(text), *_from_percent(text)) if _is_prose(each)]
    if depth > 1:
        found += [inner for each in found for inner in decoded(each, depth - 1)]
    return list(dict.fromkeys(found))[:20]


def _from_base64(text: str) -> Iterator[str]:
    for match in _BASE64.finditer(text):
        raw = match[0].rstrip("=").replace("-", "+").replace("_", "/")
        try:
            yield base64.b64decode(raw + "=" * (-len(raw) % 4)).decode()
        except (binascii.Error, ValueError):
            continue


def _from_hex(text: str) -> Iterator[str]:
    for match in _HEX.finditer(text):
        if match[0].startswith("&"):
            codes = re.findall(r"&#(x?)([0-9A-Fa-f]+);", match[0])
            yield "".join(
                _character(int(digits, 16 if sign else 10)) for sign, digits in codes if sign or digits.isdigit()
            )
        elif match[0].startswith("\\u"):
            yield "".join(_character(int(each, 16)) for each in re.findall(r"[0-9A-Fa-f]{4}", match[0]))
        else:
            yield bytes.fromhex("".join(re.findall(r"[0-9A-Fa-f]{2}", match[0].replace("\\x", " ")))).decode(
                "utf-8", "replace"
            )


def _character(code: int) -> str:
    return chr(code) if code < 0x110000 and not 0xD800 <= code < 0xE000 else ""


def _from_percent(text: str) -> Iterator[str]:
    for match in _PERCENT.finditer(text):
        yield unquote(match[0])


def _is_prose(text: str) -> bool:
    """Whether what was decoded reads as words: a digest or an identifier does not."""
    if len(text) < 8 or not all(each.isprintable() or each in "\n\t\r" for each in text):
        return False
    words = sum(len(each) for each in _WORD.findall(text) if len(each) > 1)
    return words >= len(text) * 0.6
