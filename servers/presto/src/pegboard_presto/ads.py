"""Ads revenue: a small synthetic table in a database of its own, reached by `get_revenue_metrics` alone.

Every number is made by the fixed arithmetic below, the same on every machine; none of it is anybody's revenue.
"""

from __future__ import annotations

from datetime import date
from typing import Literal

TABLE = "ads_revenue"
FIRST_DAY = date(2013, 1, 1)
LAST_DAY = date(2013, 12, 31)
ROWS = 365 * 12 * 4
"""Days × campaigns × products."""

SYNTHETIC = (
    "Synthetic data: 365 days of 2013 × 12 campaigns × 4 products, made by fixed arithmetic. Revenue in US dollars."
)

CREATE = f"""
CREATE TABLE {TABLE} AS
SELECT
    DATE '{FIRST_DAY}' + CAST(d AS INTEGER) AS day,
    printf('campaign-%02d', c + 1) AS campaign,
    list_extract(['search', 'home-feed', 'shopping', 'video'], p + 1) AS product,
    CAST(1000 + (37 * d + 101 * c + 53 * p) % 900 + 250 * p AS BIGINT) AS impressions,
    CAST(impressions * (2 + (d + 3 * c + 5 * p) % 5) // 100 AS BIGINT) AS clicks,
    CAST(CAST(clicks * (40 + (d + 7 * c + 11 * p) % 60) AS DECIMAL(14, 0)) * 0.01 AS DECIMAL(14, 2)) AS revenue_usd
FROM range(365) AS days(d), range(12) AS campaigns(c), range(4) AS products(p)
ORDER BY day, campaign, product
"""  # noqa: S608 - no input

GroupBy = Literal["product", "campaign", "day", "month"]

_KEYS: dict[GroupBy, str] = {
    "product": "product",
    "campaign": "campaign",
    "day": "CAST(day AS VARCHAR)",
    "month": "strftime(day, '%Y-%m')",
}


def metrics_query(group_by: GroupBy) -> str:
    """SQL with parameters `first`, `last` and `rows`; the last row it gives is the total, with a NULL key.

    Highest revenue comes first, but days and months come in their order.
    """
    key = _KEYS[group_by]
    order = "key" if group_by in ("day", "month") else "revenue_usd DESC, key"
    return f"""
    WITH chosen AS (SELECT {key} AS key, * FROM {TABLE} WHERE day BETWEEN $first AND $last),
    grouped AS (SELECT key, {_SUMS} FROM chosen GROUP BY key ORDER BY {order} LIMIT $rows),
    total AS (SELECT NULL AS key, {_SUMS} FROM chosen)
    SELECT * FROM (SELECT * FROM grouped ORDER BY {order}) UNION ALL SELECT * FROM total
    """  # noqa: S608 - group_by is one of four words


_SUMS = (
    "CAST(coalesce(sum(impressions), 0) AS BIGINT) AS impressions, "
    "CAST(coalesce(sum(clicks), 0) AS BIGINT) AS clicks, "
    "CAST(coalesce(sum(revenue_usd), 0) AS DECIMAL(14, 2)) AS revenue_usd"
)
