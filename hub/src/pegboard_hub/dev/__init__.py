"""`pegboard dev`: a project behind a local edge, with reload: an instance of its own in the project's folder."""
