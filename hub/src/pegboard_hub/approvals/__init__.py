"""Approvals: what a person must say yes to before a server runs it. `service` is the one door.

A request is one row, found by what it is bound to; every step of its life is one conditional change of that row with
an entry of its history, in one transaction.
"""
