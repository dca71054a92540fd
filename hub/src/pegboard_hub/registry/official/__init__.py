"""The official registry API: what of our servers everybody may know, in the shape that MCP clients read.

Nothing here asks who is calling, so nothing here may need it: only what the modules of this folder take out of a
server can leave, and `entry.py` is the one place that puts it into words.
"""
