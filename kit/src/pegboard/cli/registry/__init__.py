"""`pegboard registry`: drafts made of what other registries tell."""
