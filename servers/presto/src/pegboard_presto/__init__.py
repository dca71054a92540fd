"""The server `prod/presto`: Presto SQL over an embedded engine, and ads revenue for Ads engineering alone."""
