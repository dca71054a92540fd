"""The metrics that the supervisor gathers of its processes, and of the machine."""

from __future__ import annotations

from pegboard.core.metrics import Metric

INSTANCE_INFO = Metric(
    "pegboard_instance_info",
    "gauge",
    ("version", "isolation"),
    "Always 1: the version that runs, and how servers are kept apart.",
    "none",
)
GATHERED = Metric(
    "pegboard_gathered_timestamp_seconds",
    "gauge",
    (),
    "When the supervisor last gathered all that is not the hub's own.",
    "seconds since 1970",
)
GATHER_SECONDS = Metric("pegboard_gather_seconds", "gauge", (), "How long the last gathering took.", "seconds")
PROCESS_UP = Metric("pegboard_process_up", "gauge", ("process",), "1 while the process is live, else 0.", "boolean")
PROCESS_RESTARTS = Metric(
    "pegboard_process_restarts_total", "counter", ("process",), "How often it was started again.", "starts"
)
PROCESS_SINCE = Metric(
    "pegboard_process_state_timestamp_seconds",
    "gauge",
    ("process",),
    "Since when it is live, or is not.",
    "seconds since 1970",
)
PROCESS_MEMORY = Metric(
    "pegboard_process_memory_bytes",
    "gauge",
    ("process",),
    "Private memory of the process and of all it started.",
    "bytes",
)
PROCESS_MEMORY_LIMIT = Metric(
    "pegboard_process_memory_limit_bytes",
    "gauge",
    ("process",),
    "Memory beyond which it is started again; only where there is a limit.",
    "bytes",
)
PROCESS_CPU = Metric(
    "pegboard_process_cpu_seconds_total",
    "counter",
    ("process",),
    "Processor time of the process and of all it started.",
    "seconds",
)
NOT_STARTED = Metric(
    "pegboard_servers_not_started", "gauge", (), "Servers that are granted and do not run.", "servers"
)
OF_SERVERS = ("server", "release", "replica")
"""Labels that say of which process a server's figures are: which release, by the first digits of its digest, and
which of its replicas by its number; that is empty where there is one process and no replica."""

ANSWERS = Metric(
    "pegboard_server_metrics_up",
    "gauge",
    OF_SERVERS,
    "1 when the server's metrics could be read in the last gathering, else 0.",
    "boolean",
)
DROPPED = Metric(
    "pegboard_server_metrics_dropped",
    "gauge",
    OF_SERVERS,
    "Lines of the server's page in the last gathering that are not of its table, and were left out.",
    "lines",
)
DISK_FREE = Metric(
    "pegboard_disk_free_bytes", "gauge", (), "Room on the disk of PEGBOARD_HOME that may be used.", "bytes"
)
DISK_SIZE = Metric("pegboard_disk_size_bytes", "gauge", (), "Size of the disk of PEGBOARD_HOME.", "bytes")

SUPERVISOR_METRICS = (
    INSTANCE_INFO,
    GATHERED,
    GATHER_SECONDS,
    PROCESS_UP,
    PROCESS_RESTARTS,
    PROCESS_SINCE,
    PROCESS_MEMORY,
    PROCESS_MEMORY_LIMIT,
    PROCESS_CPU,
    NOT_STARTED,
    ANSWERS,
    DROPPED,
    DISK_FREE,
    DISK_SIZE,
)
"""What the supervisor knows."""
