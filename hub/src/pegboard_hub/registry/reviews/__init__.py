"""Reviews: who looks at a server before production, at what, and the grant that comes of it."""
