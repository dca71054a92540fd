"""What may run, decided on the statement as the engine itself parses it, so that two parsers cannot be played
against one another. Everything is refused but the kinds of node, tables and functions named here.

This is the second wall. The first is the engine's configuration (`engine.py`): no files, no network, no settings,
read-only, and a database that holds the open tables only. What people write passes here too: their query is looked
at as every query is, and the words around it are the server's own (`changing.py`).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Set
from difflib import get_close_matches
from typing import Any

import duckdb

from pegboard import ToolError
from pegboard_presto.functions import FUNCTIONS

_EXPRESSIONS = frozenset(
    [
        "BETWEEN",
        "CASE",
        "CAST",
        "COLLATE",
        "COLUMN_REF",
        "COMPARISON",
        "CONJUNCTION",
        "CONSTANT",
        "FUNCTION",
        "LAMBDA",
        "LAMBDA_REF",
        "OPERATOR",
        "POSITIONAL_REFERENCE",
        "STAR",
        "SUBQUERY",
        "TYPE",
        "WINDOW",
    ]
)
_NODES = frozenset(
    [
        "SELECT_NODE",
        "SET_OPERATION_NODE",
        "RECURSIVE_CTE_NODE",
        "CTE_NODE",
        "BASE_TABLE",
        "SUBQUERY",
        "JOIN",
        "EXPRESSION_LIST",
        "EMPTY",
        "TABLE_FUNCTION",
        "ORDER_MODIFIER",
        "LIMIT_MODIFIER",
        "DISTINCT_MODIFIER",
        "ASCENDING",
        "DESCENDING",
        "ORDER_DEFAULT",
    ]
)
_TABLE_FUNCTIONS = frozenset({"unnest"})

_SERIALIZE = "SELECT json_serialize_sql(?::VARCHAR, skip_null := true, skip_empty := true)"


def check(cursor: duckdb.DuckDBPyConnection, sql: str, reserved: Set[str], tables: Collection[str]) -> None:
    """Refuse `sql` unless it is one query over open tables with known functions.

    Args:
        cursor: any cursor of the engine; its parser is used, the statement is not run.
        sql: in the engine's SQL.
        reserved: names the engine would resolve by itself (its catalog's views), so no WITH may take them.
        tables: names of the open tables.

    Raises:
        ToolError: with what to write instead.
    """
    nodes = list(_nodes(_parse(cursor, sql)))
    ctes = {entry["key"].lower() for node in nodes for entry in node.get("cte_map", {}).get("map", ())}
    if taken := sorted(ctes & reserved):
        raise ToolError(f"WITH {taken[0]}: this name belongs to the engine; choose another.")
    for node in nodes:
        _check_node(node, ctes, tables)


def _parse(cursor: duckdb.DuckDBPyConnection, sql: str) -> dict[str, Any]:
    """The engine's own reading of one query."""
    try:
        row = cursor.execute(_SERIALIZE, [sql]).fetchone()
        tree: dict[str, Any] = json.loads(row[0]) if row else {"error": True}
    except (duckdb.Error, RecursionError, ValueError) as error:
        raise ToolError("The engine cannot parse this query: simplify it.") from error
    if tree["error"]:
        raise ToolError(f"The engine cannot run this: {_first_line(tree.get('error_message', 'not a query'))}")
    statements: list[dict[str, Any]] = tree["statements"]
    if len(statements) != 1:
        raise ToolError("Send exactly one query.")
    return statements[0]


def unknown_table(name: str, tables: Collection[str]) -> ToolError:
    """The one answer for every table that is not open, whether or not something of that name exists."""
    near = get_close_matches(name.lower(), tables, n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    return ToolError(f"There is no table {name!r}.{hint} Tables: {', '.join(tables)}.")


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    """Every object of the tree, without recursion."""
    waiting = [tree]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            yield item
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)


def _check_node(node: dict[str, Any], ctes: Set[str], tables: Collection[str]) -> None:
    kind, expression = node.get("type"), node.get("class")
    if expression is not None and expression not in _EXPRESSIONS:
        raise ToolError(f"{_words(expression)} is not offered in a query.")
    if expression is None and isinstance(kind, str) and kind not in _NODES:
        raise ToolError(f"{_words(kind)} is not offered in a query.")
    if kind == "BASE_TABLE":
        _check_table(node, ctes, tables)
    if kind == "TABLE_FUNCTION" and node["function"].get("function_name", "").lower() not in _TABLE_FUNCTIONS:
        raise ToolError("A function cannot stand for a table here, UNNEST excepted.")
    if "function_name" in node:
        _check_function(node)


def _check_table(node: dict[str, Any], ctes: Set[str], tables: Collection[str]) -> None:
    path = node.get("qualified_name", {}).get("path", [])
    name = node.get("table_name", "")
    if path != [name] or node.get("schema_name") or node.get("catalog_name"):
        raise ToolError(f"Write {name or 'the table'} by its plain name, without a catalog or schema.")
    if name.lower() not in tables and name.lower() not in ctes:
        raise unknown_table(name, tables)


def _check_function(node: dict[str, Any]) -> None:
    name = node["function_name"]
    path = node.get("qualified_name", {}).get("path", [name])
    if path == [name] and name.lower() in FUNCTIONS:
        return
    near = get_close_matches(name.lower(), FUNCTIONS, n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    raise ToolError(f"The function {name!r} is not offered.{hint}")


def _words(kind: str) -> str:
    return kind.replace("_", " ").lower().capitalize()


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0][:300]
