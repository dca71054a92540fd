"""What the platform team operates: registry, edge, identity, ledger, pages and the supervisor."""
