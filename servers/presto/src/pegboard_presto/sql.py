"""From Presto SQL to DuckDB SQL. Nothing is allowed or refused here for safety's sake: that is `guard`'s.

sqlglot's parser tries alternatives and can take time exponential in the nesting (`ARRAY[ARRAY[ARRAY[…`), and its
generator repeats operands of some functions (`greatest(greatest(…`). Both therefore count their steps and give up.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from sqlglot import ErrorLevel, exp
from sqlglot.dialects.duckdb import DuckDB
from sqlglot.dialects.presto import Presto
from sqlglot.errors import ParseError, SqlglotError, TokenError, UnsupportedError
from sqlglot.generators.duckdb import DuckDBGenerator
from sqlglot.parsers.presto import PrestoParser

from pegboard import ToolError

MAX_LENGTH = 20_000
"""Characters of one statement."""

MAX_TOKENS = 4_000
PARSER_STEPS = 60_000
GENERATOR_STEPS = 30_000

# sqlglot logs statements it does not understand; a statement is the caller's business, not the log's.
logging.getLogger("sqlglot").setLevel(logging.CRITICAL)

TOO_COMPLEX = "The SQL is too long or too deeply nested: split it into steps with WITH, or ask for less."


_PRESTO, _DUCKDB = Presto(), DuckDB()


class _Budget(Exception):
    """A step counter ran out."""


class _Parser(PrestoParser):
    """Presto's parser with a limit on steps, tokens taken again after a failed try included."""

    _steps = 0

    def _advance(self, times: int = 1) -> None:
        self._steps += 1
        if self._steps > PARSER_STEPS:
            raise _Budget
        super()._advance(times)


class _Generator(DuckDBGenerator):
    """DuckDB's generator with a limit on nodes written."""

    _steps = 0

    def sql(self, *args: Any, **options: Any) -> str:
        self._steps += 1
        if self._steps > GENERATOR_STEPS:
            raise _Budget
        return super().sql(*args, **options)


@dataclass(frozen=True, slots=True)
class Select:
    """A query, in the engine's SQL."""

    sql: str


@dataclass(frozen=True, slots=True)
class Describe:
    """`DESCRIBE table` or `SHOW COLUMNS FROM table`."""

    table: str


@dataclass(frozen=True, slots=True)
class ShowTables:
    """`SHOW TABLES`."""


def read_presto(sql: str, max_rows: int) -> Select | Describe | ShowTables:
    """Read one Presto statement. A query without a smaller LIMIT of its own gets one of `max_rows` + 1.

    Raises:
        ToolError: it cannot be read, is not exactly one statement, or asks for something else than reading.
    """
    if len(sql) > MAX_LENGTH:
        raise ToolError(TOO_COMPLEX)
    try:
        return _statement(_parse(sql), max_rows)
    except (_Budget, RecursionError) as error:
        raise ToolError(TOO_COMPLEX) from error
    except TokenError as error:
        raise ToolError("The SQL cannot be read: a quote or a comment is not closed.") from error
    except ParseError as error:
        raise ToolError(_syntax_message(error)) from error
    except UnsupportedError as error:
        raise ToolError(f"This Presto SQL has no equivalent in the engine: {error}") from error
    except SqlglotError as error:
        raise ToolError("The SQL cannot be read as Presto SQL.") from error


def _parse(sql: str) -> exp.Expr:
    tokens = _PRESTO.tokenize(sql)
    if len(tokens) > MAX_TOKENS:
        raise ToolError(TOO_COMPLEX)
    parsed = _Parser(dialect=_PRESTO, error_level=ErrorLevel.RAISE).parse(tokens, sql)
    statements = [tree for tree in parsed if tree is not None and not isinstance(tree, exp.Semicolon)]
    if not statements:
        raise ToolError("There is no statement. Example: SELECT count(*) FROM flights")
    if len(statements) > 1:
        raise ToolError(f"These are {len(statements)} statements; send exactly one.")
    return statements[0]


def _statement(tree: exp.Expr, max_rows: int) -> Select | Describe | ShowTables:
    if isinstance(tree, exp.Describe) and isinstance(tree.this, exp.Table) and not tree.args.get("style"):
        return Describe(_table_name(tree.this))
    if isinstance(tree, exp.Command):
        return _show(tree)
    if not isinstance(tree, exp.Query | exp.Values):
        raise ToolError(
            f"{tree.key.upper()} is not offered: only queries are (SELECT, WITH, UNION, VALUES), and SHOW TABLES, "
            "SHOW COLUMNS FROM table, DESCRIBE table."
        )
    _limit(tree, max_rows + 1)
    tree = tree.transform(_plain_timestamp)
    return Select(_Generator(dialect=_DUCKDB, unsupported_level=ErrorLevel.RAISE, comments=False).generate(tree))


def _show(command: exp.Command) -> Describe | ShowTables:
    """The SHOW statements that the parser knows only as words."""
    words = f"{command.this} {command.text('expression')}".lower().replace(";", " ").split()
    if words == ["show", "tables"]:
        return ShowTables()
    if words[:2] == ["show", "columns"] and len(words) == 4 and words[2] in ("from", "in"):
        return Describe(words[3])
    raise ToolError(
        f"{str(command.this).upper()} is not offered in this form: use SELECT, SHOW TABLES, SHOW COLUMNS FROM table "
        "or DESCRIBE table."
    )


def _table_name(table: exp.Table) -> str:
    return ".".join(part.name for part in table.parts)


def _limit(tree: exp.Expr, rows: int) -> None:
    """Tell the engine how many rows are wanted at most, so that it sorts and keeps no more."""
    if not isinstance(tree, exp.Select | exp.SetOperation):
        return
    given = tree.args.get("limit")
    if given is None or _is_larger(given, rows):
        tree.limit(rows, copy=False)


def _is_larger(given: exp.Expr, rows: int) -> bool:
    value = given.expression if isinstance(given, exp.Limit) else None
    return isinstance(value, exp.Literal) and value.is_int and int(value.this) > rows


def _plain_timestamp(node: exp.Expr) -> exp.Expr:
    """Times are UTC here; the engine knows no zones, so "now" and Unix times are timestamps without one."""
    if isinstance(node, exp.CurrentTimestamp | exp.UnixToTime):
        return exp.cast(node.copy(), exp.DataType.Type.TIMESTAMP)
    return node


def _syntax_message(error: ParseError) -> str:
    if not error.errors:
        return "Syntax error in the SQL."
    first = error.errors[0]
    where = f"line {first.get('line')}, column {first.get('col')}"
    near = str(first.get("highlight") or "")[:80]
    expected = str(first.get("description") or "unexpected").partition(" but got <Token")[0]
    return f"Syntax error at {where}{f', near {near!r}' if near else ''}: {expected}."
