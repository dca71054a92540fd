"""The life of one call inside a server: authenticate, gate, authorize, run, measure. The order is in `chain.py`."""
