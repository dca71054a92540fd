"""The metrics of the hub; those of servers are `pegboard.core.metrics`, all others in the two tables beside this one.

The label `server` is a name of the registry and `process` one of the supervisor's; no label names a person.
"""

from __future__ import annotations

from pegboard.core.metrics import Metric

HUB_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
LAG_BUCKETS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 600.0, 3600.0, 86400.0)

ROUTES = (
    "api",
    "pages",
    "sign-in",
    "probes",
    "metrics",
    "static",
    "records",
    "refusals",
    "health",
    "approvals",
    "operator",
    "other",
)
"""Classes of the hub's routes."""

HUB_REQUESTS = Metric(
    "pegboard_hub_requests_total",
    "counter",
    ("route", "status"),
    "Requests the hub answered, at both of its doors, by class of route; status 0 is a caller who had gone.",
    "requests",
)
HUB_REQUEST_SECONDS = Metric(
    "pegboard_hub_request_seconds",
    "histogram",
    ("route",),
    "From a request's head to the end of its answer.",
    "seconds",
    HUB_BUCKETS,
)
HUB_STARTED = Metric(
    "pegboard_hub_start_timestamp_seconds", "gauge", (), "When this hub started.", "seconds since 1970"
)
DATABASE_SECONDS = Metric(
    "pegboard_hub_database_seconds",
    "histogram",
    ("kind",),
    "How long a transaction had the database: `read` or `write`.",
    "seconds",
    HUB_BUCKETS,
)
DATABASE_WAIT = Metric(
    "pegboard_hub_database_wait_seconds",
    "histogram",
    (),
    "How long a write waited for those before it.",
    "seconds",
    HUB_BUCKETS,
)
DATABASE_ERRORS = Metric(
    "pegboard_hub_database_errors_total",
    "counter",
    ("kind",),
    "Transactions that failed: the disk did not take it (`disk`), the server was away or full "
    "(`server`), or anything else (`other`).",
    "transactions",
)
DATABASE_REFUSES = Metric(
    "pegboard_hub_database_refuses_writes", "gauge", (), "1 while the disk takes no writes, else 0.", "boolean"
)
DATABASE_BYTES = Metric(
    "pegboard_hub_database_bytes", "gauge", (), "Size of the embedded database and its write-ahead log.", "bytes"
)
RECORDS = Metric(
    "pegboard_hub_records_total",
    "counter",
    ("kind",),
    "Records the ledger took, each delivery counted: `intent`, `outcome`, `denial`, `edge`, or `unreadable`.",
    "records",
)
INTAKE_LAG = Metric(
    "pegboard_hub_intake_lag_seconds",
    "histogram",
    ("source",),
    "From the moment a record tells of until the ledger has it: of `servers` and of the `edge`.",
    "seconds",
    LAG_BUCKETS,
)
UNKNOWN_CALLS = Metric(
    "pegboard_hub_calls_unknown",
    "gauge",
    (),
    "Calls in the ledger whose outcome never came; looked at every minute.",
    "calls",
)
REGISTRY_SERVERS = Metric(
    "pegboard_hub_registry_servers",
    "gauge",
    ("state",),
    "Servers that are granted: `deployed` can be called, `not_deployed` have no release that can be used.",
    "servers",
)
REGISTRY_PROBLEMS = Metric(
    "pegboard_hub_registry_problems",
    "gauge",
    (),
    "Faults of the grants file and of declarations, as the home page shows them.",
    "problems",
)
STOPPED = Metric(
    "pegboard_hub_stopped",
    "gauge",
    ("kind",),
    "What is stopped for everybody now: `tool`, `server`, `surface`, `person`, `client` or `service`.",
    "stops",
)
BUNDLES_SIGNED = Metric(
    "pegboard_hub_bundles_signed_timestamp_seconds",
    "gauge",
    (),
    "When all bundles were last signed and written; 0 before.",
    "seconds since 1970",
)
TOKENS_ISSUED = Metric(
    "pegboard_hub_tokens_issued_total", "counter", ("surface",), "Access tokens that were issued.", "tokens"
)
SERVICE_TOKENS_REFUSED = Metric(
    "pegboard_hub_service_tokens_refused_total",
    "counter",
    ("error",),
    "Token requests of services that were refused, by the OAuth error that they were told.",
    "requests",
)

EXCHANGES_REFUSED = Metric(
    "pegboard_hub_exchanges_refused_total",
    "counter",
    ("error",),
    "Token exchanges of surfaces that act for people that were refused, by the OAuth error that they were told.",
    "requests",
)

APPROVALS = Metric(
    "pegboard_hub_approvals_open",
    "gauge",
    ("state",),
    "Requests that wait for people (`requested`), that somebody approved and no call claimed yet (`approved`), and "
    "whose action runs (`claimed`); looked at every minute.",
    "requests",
)
APPROVALS_OLDEST = Metric(
    "pegboard_hub_approvals_oldest_seconds",
    "gauge",
    (),
    "How long the request has waited that waits longest for people; 0 where none waits. Looked at every minute.",
    "seconds",
)
APPROVALS_MOVED = Metric(
    "pegboard_hub_approvals_total",
    "counter",
    ("state",),
    "Requests by the state that they came into, of all hubs, as the history says; counted every minute by the hub "
    "that leads.",
    "requests",
)
APPROVALS_DECIDED = Metric(
    "pegboard_hub_approval_wait_seconds",
    "histogram",
    (),
    "From a request until somebody decided on it.",
    "seconds",
    LAG_BUCKETS,
)
APPROVALS_REFUSED = Metric(
    "pegboard_hub_approvals_refused_total",
    "counter",
    ("code",),
    "Questions of servers for approvals that were refused, by the code that they were told; `too_many` is a person "
    "whose calls asked for more than anybody reads.",
    "questions",
)

SERVER_STATES = (
    *("live", "starting", "down", "flapping", "unknown"),
    *("not deployed", "preparing", "failed", "not started"),
)
"""What a server can be (`registry.status`)."""

HEALTH_SERVERS = Metric(
    "pegboard_hub_health_servers",
    "gauge",
    ("state",),
    "Registered servers by how they are doing, as pages and API tell it.",
    "servers",
)
HEALTH_LOOKS = Metric(
    "pegboard_hub_health_looks_total",
    "counter",
    ("outcome",),
    "Looks of the prober, by how they ended: `ok`, `unready` (by its own word), `status` (another answer), "
    "`timeout`, `refused` (the connection), `absent` (no socket), `broken` (no whole answer).",
    "looks",
)
HEALTH_LOOK_SECONDS = Metric(
    "pegboard_hub_health_look_seconds",
    "histogram",
    (),
    "How long the prober's looks at servers took.",
    "seconds",
    HUB_BUCKETS,
)
HEALTH_HEARD = Metric(
    "pegboard_hub_health_heard_timestamp_seconds",
    "gauge",
    (),
    "When the prober last reported; it does every five seconds. 0 before.",
    "seconds since 1970",
)
HEALTH_OLDEST = Metric(
    "pegboard_hub_health_oldest_look_seconds",
    "gauge",
    (),
    "The prober's lag: how long ago, at its last report, it had looked at the server that waits longest.",
    "seconds",
)

JOINED_UP = Metric(
    "pegboard_hub_joined_edge_up",
    "gauge",
    ("edge",),
    "1 while a joined edge is heard of and takes calls, else 0; nothing before it came for the first time.",
    "boolean",
)
JOINED_HEARD = Metric(
    "pegboard_hub_joined_edge_heard_timestamp_seconds",
    "gauge",
    ("edge",),
    "When a joined edge was last heard of.",
    "seconds since 1970",
)
JOINED_VERSION = Metric(
    "pegboard_hub_joined_edge_bundle_version",
    "gauge",
    ("edge",),
    "Version of the bundle that a joined edge says it decides with.",
    "version",
)
JOINED_FAULTS = Metric(
    "pegboard_hub_joined_edge_faults",
    "gauge",
    ("edge",),
    "What a joined edge says that it was told and does not use.",
    "faults",
)

NOTIFICATIONS = Metric(
    "pegboard_hub_notifications_total",
    "counter",
    ("destination", "outcome"),
    "Attempts to tell a destination of approvals: `delivered`, `failed` (tried again later) or `given_up`.",
    "attempts",
)
NOTIFICATIONS_WAITING = Metric(
    "pegboard_hub_notifications_waiting",
    "gauge",
    ("destination",),
    "Messages that a destination has not taken yet; of several hubs the one that leads says it.",
    "messages",
)
NOTIFICATIONS_OLDEST = Metric(
    "pegboard_hub_notifications_oldest_seconds",
    "gauge",
    ("destination",),
    "How long the oldest of them has waited.",
    "seconds",
)

DEPLOYMENTS = Metric(
    "pegboard_deployments",
    "gauge",
    ("stage",),
    "Submitted servers by the stage of their deployment: `settled`, `starting`, `stepping` or `watching`; of several "
    "hubs the one that leads says it.",
    "servers",
)
DEPLOYMENT_MOVES = Metric(
    "pegboard_deployment_moves_total",
    "counter",
    ("move",),
    "What was done with releases: `begin`, `step`, `switch`, `settle`, `fail`, `give up`, `back` or `let go`. `fail` "
    "and `back` are releases that did not make it.",
    "moves",
)
REPLICAS = Metric(
    "pegboard_replicas",
    "gauge",
    ("state",),
    "Replicas of submitted servers by what their runtimes said last: `starting`, `ready`, `asleep`, `failing` or "
    "`stopping`; told by the hub that leads.",
    "replicas",
)
SUBMISSIONS = Metric(
    "pegboard_submissions",
    "gauge",
    ("state",),
    "Submissions that are under way or wait for people, by state: `submitted` (built, or waiting for a builder), "
    "`built`, `checked`, `in review`, `approved` or `deploying`; told by the hub that leads, every 15 seconds.",
    "submissions",
)
BUILDS_OLDEST = Metric(
    "pegboard_builds_oldest_seconds",
    "gauge",
    (),
    "How long the submission has waited for a builder that waits longest; 0 where none waits, and at a hub that does "
    "not lead.",
    "seconds",
)
RUNTIME_HEARD = Metric(
    "pegboard_runtime_heard_timestamp_seconds",
    "gauge",
    ("runtime",),
    "When a runtime that has replicas last said how they do; `machine` is the instance's own. Told by the hub that "
    "leads, every 15 seconds.",
    "seconds since 1970",
)

HUB_METRICS = (
    HUB_REQUESTS,
    HUB_REQUEST_SECONDS,
    HUB_STARTED,
    DATABASE_SECONDS,
    DATABASE_WAIT,
    DATABASE_ERRORS,
    DATABASE_REFUSES,
    DATABASE_BYTES,
    RECORDS,
    INTAKE_LAG,
    UNKNOWN_CALLS,
    REGISTRY_SERVERS,
    REGISTRY_PROBLEMS,
    STOPPED,
    BUNDLES_SIGNED,
    TOKENS_ISSUED,
    SERVICE_TOKENS_REFUSED,
    EXCHANGES_REFUSED,
    APPROVALS,
    APPROVALS_OLDEST,
    APPROVALS_MOVED,
    APPROVALS_DECIDED,
    APPROVALS_REFUSED,
    HEALTH_SERVERS,
    HEALTH_LOOKS,
    HEALTH_LOOK_SECONDS,
    HEALTH_HEARD,
    HEALTH_OLDEST,
    JOINED_UP,
    JOINED_HEARD,
    JOINED_VERSION,
    JOINED_FAULTS,
    NOTIFICATIONS,
    NOTIFICATIONS_WAITING,
    NOTIFICATIONS_OLDEST,
    DEPLOYMENTS,
    DEPLOYMENT_MOVES,
    REPLICAS,
    SUBMISSIONS,
    BUILDS_OLDEST,
    RUNTIME_HEARD,
)
"""What the hub counts itself."""
