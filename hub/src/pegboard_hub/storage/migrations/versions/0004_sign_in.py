"""Sign-in: sessions, clients, what people connected, and what was revoked before its time."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "client_decisions",
        sa.Column("software", sa.String(length=512), nullable=False),
        sa.Column("standing", sa.String(length=16), nullable=False),
        sa.Column("surface", sa.String(length=16), nullable=True, comment="null: by its redirects"),
        sa.Column("decided_by", sa.String(length=255), nullable=False),
        sa.Column("decided_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("software", name=op.f("pk_client_decisions")),
    )
    op.create_table(
        "clients",
        sa.Column("client_id", sa.String(length=512), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("software", sa.String(length=512), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False, comment="what it calls itself"),
        sa.Column("redirect_uris", sa.JSON(), nullable=False),
        sa.Column("uri", sa.Text(), nullable=True, comment="its home page, as it says"),
        sa.Column("created_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("seen_at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("client_id", name=op.f("pk_clients")),
    )
    op.create_index("ix_clients_seen_at_ms", "clients", ["seen_at_ms"], unique=False)
    op.create_index("ix_clients_software", "clients", ["software"], unique=False)
    op.create_table(
        "consents",
        sa.Column(
            "login", sa.String(length=255), nullable=False, comment="issuer of the login that the person is from"
        ),
        sa.Column("sub", sa.String(length=255), nullable=False),
        sa.Column("software", sa.String(length=512), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("given_at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("login", "sub", "software", name=op.f("pk_consents")),
    )
    op.create_table(
        "device_codes",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("user_code", sa.String(length=16), nullable=False),
        sa.Column("client_id", sa.String(length=512), nullable=False),
        sa.Column("resource", sa.Text(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column(
            "asked_from", sa.String(length=64), nullable=False, comment="the address that asked; empty: not known"
        ),
        sa.Column(
            "asked_by", sa.String(length=200), nullable=False, comment="the program that asked, as it named itself"
        ),
        sa.Column("asked_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("connection", sa.String(length=32), nullable=True, comment="once a person has said yes"),
        sa.Column("denied_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("used_at_ms", sa.BigInteger(), nullable=True, comment="when it was exchanged for tokens"),
        sa.Column("polled_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("interval_s", sa.BigInteger(), nullable=False, comment="how long to wait between polls"),
        sa.Column("expires_at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_device_codes")),
    )
    op.create_index("ix_device_codes_expires_at_ms", "device_codes", ["expires_at_ms"], unique=False)
    op.create_index("ix_device_codes_user_code", "device_codes", ["user_code"], unique=True)
    op.create_table(
        "revocations",
        sa.Column("kind", sa.String(length=8), nullable=False, comment="session, token or client"),
        sa.Column("value", sa.String(length=512), nullable=False, comment="the claim's value: sid, jti or client_id"),
        sa.Column(
            "until_ms", sa.BigInteger(), nullable=False, comment="when the last token with it has expired anyway"
        ),
        sa.PrimaryKeyConstraint("kind", "value", name=op.f("pk_revocations")),
    )
    op.create_table(
        "sessions",
        sa.Column("sid", sa.String(length=32), nullable=False),
        sa.Column("secret_digest", sa.String(length=64), nullable=False, comment="SHA-256 of the cookie's value"),
        sa.Column("sub", sa.String(length=255), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("email", sa.Text(), nullable=True),
        sa.Column("groups", sa.JSON(), nullable=False),
        sa.Column("login", sa.String(length=255), nullable=False, comment="issuer of the login that it is from"),
        sa.Column("subject", sa.String(length=255), nullable=False, comment="the person's id at the login"),
        sa.Column(
            "login_session", sa.String(length=255), nullable=False, comment="the login's own id of the sign-in"
        ),
        sa.Column("renewal", sa.Text(), nullable=False, comment="what renews the facts, sealed"),
        sa.Column("device", sa.String(length=200), nullable=False, comment="browser and system, as it named itself"),
        sa.Column("opened_at_ms", sa.BigInteger(), nullable=False),
        sa.Column(
            "authenticated_at_ms", sa.BigInteger(), nullable=False, comment="when the person last proved who they are"
        ),
        sa.Column("facts_at_ms", sa.BigInteger(), nullable=False, comment="when the login last told name and groups"),
        sa.Column("seen_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("expires_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("ended_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("ended_why", sa.String(length=32), nullable=True),
        sa.PrimaryKeyConstraint("sid", name=op.f("pk_sessions")),
    )
    op.create_index("ix_sessions_expires_at_ms", "sessions", ["expires_at_ms"], unique=False)
    op.create_index("ix_sessions_login_session", "sessions", ["login_session"], unique=False)
    op.create_index("ix_sessions_secret_digest", "sessions", ["secret_digest"], unique=True)
    op.create_index("ix_sessions_sub", "sessions", ["sub"], unique=False)
    op.create_index("ix_sessions_subject", "sessions", ["subject"], unique=False)
    op.create_table(
        "connections",
        sa.Column("connection", sa.String(length=32), nullable=False),
        sa.Column("sid", sa.String(length=32), nullable=False),
        sa.Column("sub", sa.String(length=255), nullable=False),
        sa.Column("client_id", sa.String(length=512), nullable=False),
        sa.Column(
            "resource", sa.Text(), nullable=False, comment="the one it is for; empty: any, of Pegboard's own command"
        ),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("opened_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("seen_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("ended_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("ended_why", sa.String(length=32), nullable=True),
        sa.Column(
            "family_digest",
            sa.String(length=64),
            nullable=True,
            comment="of what its refresh tokens begin with; null before the first",
        ),
        sa.ForeignKeyConstraint(["sid"], ["sessions.sid"], name=op.f("fk_connections_sid_sessions")),
        sa.PrimaryKeyConstraint("connection", name=op.f("pk_connections")),
    )
    op.create_index("ix_connections_client_id", "connections", ["client_id"], unique=False)
    op.create_index("ix_connections_family_digest", "connections", ["family_digest"], unique=True)
    op.create_index("ix_connections_sid", "connections", ["sid"], unique=False)
    op.create_index("ix_connections_sub", "connections", ["sub"], unique=False)
    op.create_table(
        "authorization_codes",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("connection", sa.String(length=32), nullable=False),
        sa.Column("redirect_uri", sa.Text(), nullable=False),
        sa.Column("redirect_uri_given", sa.Boolean(), nullable=False, comment="whether the request named it"),
        sa.Column("code_challenge", sa.String(length=128), nullable=False),
        sa.Column("expires_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("used_at_ms", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["connection"], ["connections.connection"], name=op.f("fk_authorization_codes_connection_connections")
        ),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_authorization_codes")),
    )
    op.create_index("ix_authorization_codes_connection", "authorization_codes", ["connection"], unique=False)
    op.create_index("ix_authorization_codes_expires_at_ms", "authorization_codes", ["expires_at_ms"], unique=False)
    op.create_table(
        "refresh_tokens",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("connection", sa.String(length=32), nullable=False),
        sa.Column("jti", sa.String(length=32), nullable=False, comment="of the access token that was issued with it"),
        sa.Column("issued_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("expires_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("used_at_ms", sa.BigInteger(), nullable=True, comment="when it was exchanged for the next"),
        sa.ForeignKeyConstraint(
            ["connection"], ["connections.connection"], name=op.f("fk_refresh_tokens_connection_connections")
        ),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_refresh_tokens")),
    )
    op.create_index("ix_refresh_tokens_connection", "refresh_tokens", ["connection"], unique=False)
    op.create_index("ix_refresh_tokens_jti", "refresh_tokens", ["jti"], unique=False)
    op.create_index("ix_refresh_tokens_expires_at_ms", "refresh_tokens", ["expires_at_ms"], unique=False)
    op.create_index("ix_refresh_tokens_used_at_ms", "refresh_tokens", ["used_at_ms"], unique=False)
    op.add_column(
        "tools",
        sa.Column(
            "read_only",
            sa.Boolean(),
            server_default=sa.false(),
            nullable=False,
            comment="it changes nothing, as its author says",
        ),
    )
