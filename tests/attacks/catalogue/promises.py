"""What Pegboard promises (SECURITY.md), and which files of attacks try to break each promise."""

from __future__ import annotations

PROMISES: dict[str, str] = {
    "closed": "Deny by default, fail closed: no grant, no policy, no current bundle, no verified token each mean no.",
    "edges": "Every edge holds to this, with files of its own; what one edge has, or somebody who stole it, "
    "opens nothing of another.",
    "identity": "A caller's identity headers never survive the edge, and a server never acts on headers alone.",
    "one-meaning": "What the edge saw and what the server ran are the same bytes; a request with two readings is "
    "refused.",
    "hidden": "A hidden tool and an unknown one are told apart by nobody but the owner.",
    "bound": "A token is good for one server, one person, one client and one surface, and ends with what it came "
    "from; so do sessions and streams.",
    "stop": "What an operator stops is refused at both layers within two seconds, and no token resumes it.",
    "rules": "A coarse rule refuses at both layers what grants allow, and opens nothing; no token loosens one, and "
    "every version of the rules has a name to it.",
    "acting": "A chat or a bot acts only for people who let it, with a key of its own, within the operator's limits; "
    "every token and record names both.",
    "services": "A service calls by its own certificate alone, only what reads, and only servers that are granted to "
    "it and hold nothing sensitive.",
    "abuse": "What one caller sends, however much or slowly, costs nobody else their calls, within the limits that "
    "the operator sets.",
    "authors": "A server's code and an author's project reach and name nothing but themselves, and answer nobody but "
    "who asked.",
    "foreign": "A server that somebody else wrote shows what was pinned of it, gets what was judged and approved, "
    "and reaches nothing of the proxy before it.",
    "sign-in": "A client gets what the person allowed it in their own browser, once, for one server; what widens "
    "access wants that person there.",
    "keys": "The process that holds signing keys runs no author's code. A key that was rotated out signs nothing "
    "more, and what it signed ends.",
    "leaked": "A key that leaked is worthless within seconds of one command, with or without a hub; an edge that "
    "cannot be told is named, and no backup brings it back.",
    "secrets": "Tokens and secrets are in no log, record, page or database.",
    "approvals": "What needs a person's yes runs as it was shown, once, and only after one who may says so in their "
    "own browser: no token, client, server or agent says it for them.",
    "releases": "What runs is what was checked, reviewed and signed, as its code declared it then; who may not "
    "release changes nothing that runs.",
    "ledger": "A call that is acknowledged is in the ledger, whatever is killed afterwards.",
}
"""Each promise by its key; the sentence is a line of SECURITY.md."""

FILES: dict[str, tuple[str, ...]] = {
    "attacks/test_abuse_attacks.py": ("abuse",),
    "attacks/test_acting_attacks.py": ("acting",),
    "attacks/test_api_attacks.py": ("closed", "hidden"),
    "attacks/test_approval_api_attacks.py": ("approvals",),
    "attacks/test_approval_kit_attacks.py": ("approvals",),
    "attacks/test_approval_notify_attacks.py": ("approvals", "secrets", "abuse"),
    "attacks/test_approval_pages_attacks.py": ("approvals",),
    "attacks/test_approval_require_attacks.py": ("approvals",),
    "attacks/test_approval_service_attacks.py": ("approvals",),
    "attacks/test_approval_state_attacks.py": ("approvals",),
    "attacks/test_approval_whole_attacks.py": ("approvals", "one-meaning", "secrets"),
    "attacks/test_backup_attacks.py": ("authors", "secrets"),
    "attacks/test_egress_attacks.py": ("authors",),
    "attacks/test_endless_attacks.py": ("authors", "releases"),
    "attacks/test_npm_attacks.py": ("authors", "releases"),
    "attacks/test_replica_words_attacks.py": ("authors", "releases"),
    "attacks/test_bounds_attacks.py": ("abuse", "releases"),
    "attacks/test_browser_attacks.py": ("sign-in",),
    "attacks/test_build_attacks.py": ("authors", "releases"),
    "attacks/test_check_attacks.py": (
        "releases",
        "authors",
    ),
    "attacks/test_client_attacks.py": ("sign-in",),
    "attacks/test_declaration_attacks.py": ("authors",),
    "attacks/test_device_attacks.py": ("sign-in",),
    "attacks/test_doctor_attacks.py": ("secrets",),
    "attacks/test_edge_attacks.py": ("one-meaning", "identity", "ledger"),
    "attacks/test_edges_attacks.py": ("edges",),
    "attacks/test_explain_attacks.py": ("hidden",),
    "attacks/test_foreign_backend_attacks.py": ("foreign", "abuse"),
    "attacks/test_foreign_http_attacks.py": ("foreign", "bound"),
    "attacks/test_git_attacks.py": ("authors",),
    "attacks/test_health_attacks.py": ("authors",),
    "attacks/test_hub_attacks.py": ("closed", "secrets"),
    "attacks/test_key_attacks.py": ("keys",),
    "attacks/test_kubernetes_attacks.py": (
        "releases",
        "authors",
        "secrets",
    ),
    "attacks/test_leaked_key_attacks.py": ("leaked",),
    "attacks/test_login_attacks.py": ("sign-in",),
    "attacks/test_loopback_attacks.py": ("sign-in",),
    "attacks/test_metrics_attacks.py": ("authors", "secrets"),
    "attacks/test_oauth_attacks.py": ("sign-in", "secrets"),
    "attacks/test_oauth_code_attacks.py": ("sign-in",),
    "attacks/test_oauth_redirect_attacks.py": ("sign-in",),
    "attacks/test_oauth_request_attacks.py": ("sign-in",),
    "attacks/test_pages_attacks.py": ("sign-in", "hidden"),
    "attacks/test_publish_archive_attacks.py": ("authors", "releases"),
    "attacks/test_publish_attacks.py": ("authors", "closed", "hidden", "releases", "services"),
    "attacks/test_real_browser_attacks.py": ("sign-in",),
    "attacks/test_review_attacks.py": ("sign-in",),
    "attacks/test_revocation_attacks.py": ("bound",),
    "attacks/test_rollout_attacks.py": (
        "releases",
        "hidden",
    ),
    "attacks/test_rule_attacks.py": ("rules",),
    "attacks/test_runtime_attacks.py": ("authors", "secrets"),
    "attacks/test_search_attacks.py": ("hidden",),
    "attacks/test_secret_attacks.py": ("secrets",),
    "attacks/test_secrets_of_drafts_attacks.py": ("hidden",),
    "attacks/test_server_attacks.py": ("bound", "hidden", "ledger"),
    "attacks/test_service_attacks.py": ("services",),
    "attacks/test_stop_attacks.py": ("stop",),
    "attacks/test_submitted_attacks.py": (
        "releases",
        "authors",
    ),
    "attacks/test_switch_attacks.py": ("stop",),
    "attacks/test_switch_edge_attacks.py": ("stop",),
    "attacks/test_tls_attacks.py": ("bound", "abuse"),
    "attacks/test_token_attacks.py": ("closed", "bound"),
    "system/one_answer/test_one_answer.py": ("closed", "hidden"),
    "system/survival/test_full_disk.py": ("ledger",),
    "system/survival/test_key_rotation.py": ("keys",),
    "system/survival/test_kills.py": ("ledger",),
    "system/test_edge_refusals.py": ("one-meaning", "closed"),
    "system/test_edges_far.py": ("edges",),
    "system/test_foreign_live.py": ("foreign",),
    "system/test_policy_opened.py": ("closed",),
    "system/test_runtime_isolation.py": ("authors",),
}
"""The promises that each file of `tests/attacks` tests, and others that attack, beside the rows of the catalogue."""
