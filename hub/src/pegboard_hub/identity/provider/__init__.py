"""The company's login as an OpenID Connect provider: signing in, renewing what it says of a person, signing out.

`login.py` is the whole; `attempt.py`, `exchange.py`, `id_token.py`, `claims.py` and `logout.py` are its steps;
`jose.py` and `fetch.py` are the doors to what others wrote and to the provider itself.
"""
