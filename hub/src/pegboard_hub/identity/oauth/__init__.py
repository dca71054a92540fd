"""The authorization server of MCP clients: the official SDK's handlers, with what is ours around them.

    client   -> /oauth/authorize   `authorize.py`   sign in, ask where nobody has said yes, give a code
             -> /oauth/token       `token.py`       code or refresh token for an access token bound to one resource
             -> /oauth/device      `device.py`      a code to type, for a program without a browser (RFC 8628)
             -> /oauth/register    `register.py`    a client makes itself known (RFC 7591)
             -> /oauth/revoke      `revoke.py`      what it has is void (RFC 7009)

What the SDK's handlers ask is answered by `provider.py`, which is made anew for each request.
"""
