"""The `pegboard` command. It talks HTTP to the hub and MCP to servers, through the edge."""
