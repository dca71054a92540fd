"""MCP over streamable HTTP, built on the official SDK."""
