"""Whether an expression of the settings only computes: known columns, literals, operators and a list of functions.

SQL can do more than compute. `java_method` calls any method of the JVM, a subquery reads any file, a function of the
catalog is anybody's code. A configuration is passed from hand to hand, so an expression in it is no code. Spark's own
parser reads it: a second grammar would see some texts otherwise than the one that runs them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pyspark.errors import ParseException
from pyspark.sql import SparkSession

_FUNCTION_NAMES = """
    abs ceil ceiling floor round bround sign signum sqrt cbrt pow power exp ln log log2 log10 mod pmod greatest least
    coalesce ifnull nullif nvl nvl2 if isnull isnotnull isnan nanvl between bit_count xxhash64 crc32 md5 sha2
    length char_length lower lcase upper ucase trim btrim ltrim rtrim left right substr substring substring_index
    instr locate position startswith endswith contains concat concat_ws replace translate reverse lpad rpad split
    split_part regexp regexp_like rlike regexp_extract regexp_count regexp_replace like ilike
    element_at try_element_at size cardinality array_contains array_position map_contains_key array
    date date_trunc trunc to_date to_timestamp try_to_timestamp year quarter month day dayofmonth dayofweek dayofyear
    weekday hour minute second extract date_part datediff date_diff date_add date_sub add_months months_between
    unix_timestamp unix_seconds unix_millis unix_micros timestamp
    boolean tinyint smallint int bigint float double decimal string
"""
FUNCTIONS = frozenset(_FUNCTION_NAMES.split())
"""Functions of one row that give the same value whenever they are called, and read nothing but their arguments."""

_FUNCTION = "UnresolvedFunction"
_OPERATOR_NAMES = """
    UnresolvedAttribute UnresolvedFunction UnresolvedExtractValue Literal Cast Collate UnresolvedCollation CaseWhen If
    Add Subtract Multiply Divide IntegralDivide Remainder UnaryMinus UnaryPositive
    BitwiseAnd BitwiseOr BitwiseXor BitwiseNot And Or Not EqualTo EqualNullSafe LessThan LessThanOrEqual GreaterThan
    GreaterThanOrEqual IsNull IsNotNull In Like ILike RLike LikeAny LikeAll NotLikeAny NotLikeAll Concat Substring
    StringTrim StringTrimLeft StringTrimRight StringLocate
"""
_OPERATORS = frozenset(_OPERATOR_NAMES.split())
"""Classes of org.apache.spark.sql.catalyst that an expression may be made of, as parsed and not yet resolved."""
_WORDS = {
    "ScalarSubquery": "a subquery", "InSubquery": "a subquery", "Exists": "a subquery", "WindowExpression": "a window",
    "LambdaFunction": "a lambda", "UnresolvedStar": "*",
}  # fmt: skip


class NotPlainError(ValueError):
    """The expression does not parse, or does more than compute; says which."""


def require_plain(spark: SparkSession, expression: str) -> None:
    """Raise NotPlainError where `expression` does more than compute from columns.

    Cost: some milliseconds in the driver's JVM; no query.
    """
    parser = spark._jsparkSession.sessionState().sqlParser()
    try:
        parsed = parser.parseExpression(expression)
    except ParseException as e:
        raise NotPlainError(next(iter(str(e).strip().splitlines()), "it is empty")) from e
    for node in _nodes(parsed):
        kind = node.getClass().getSimpleName()
        if kind not in _OPERATORS:
            raise NotPlainError(f"{_WORDS.get(kind, kind)} does more than compute from columns")
        if kind == _FUNCTION and (name := node.nameParts().mkString(".")).lower() not in FUNCTIONS:
            raise NotPlainError(
                f"{name} is none of the functions that settings may call (docs/decisions.md names them)"
            )


def _nodes(node: Any) -> Iterator[Any]:
    yield node
    children = node.children()
    for i in range(children.size()):
        yield from _nodes(children.apply(i))
