"""The reference pages, made from the code: `make docs` writes them, and a test holds each to what the code says.

A module a page, with a function `page()` that gives its whole text. `PAGES` in `__main__.py` names them.
"""
