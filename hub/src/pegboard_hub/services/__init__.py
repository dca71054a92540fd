"""Services' identities: X.509 SVIDs, who signs them, and what the edge is told of them.

authority.py    the development CA: signs short-lived SVIDs on one machine
workload.py     the production source: a SPIFFE Workload API, as SPIRE's agent has
material.py     what either source gives: the edge's own SVID, and the authorities of each trust domain
keeper.py       a process of its own that keeps the edge's files true to the source
commands.py     `pegboard svid`, for development
"""
