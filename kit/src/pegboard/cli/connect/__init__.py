"""`pegboard connect`: the servers one may use, written into the configuration of one's MCP client."""
