"""Surfaces that act for people: chats and bots that the operator registered, each with a key of its own.

    operator -> registered       `service.py`    whom it may act for, where, with which keys
    person   -> connected        pages           each lets it act for them, in a browser, and takes that back there
    surface  -> exchange         `exchange.py`   its own credential and the person's word, for a token (RFC 8693)

What it signs is read in `assertions.py`. Nobody else gets a token of the surfaces `chat` and `bot`.
"""
