"""What an author runs: making a project, submitting it, and looking after its releases."""
