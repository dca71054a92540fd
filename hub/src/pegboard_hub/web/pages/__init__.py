"""The pages, what is around every one of them, and their templates and static files."""
