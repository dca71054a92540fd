"""What the instance is trusted by: keys, certificates, bundles."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography import x509

from pegboard.core.bundle import EDGE, Bundle, open_bundle
from pegboard.core.errors import BundleRefused
from pegboard.core.jose import Signer, Verifier, public_jwks
from pegboard_hub.common.home import Home
from pegboard_hub.upkeep.finding import Facts, Finding, must_mend, plural, span, warning, well

RENEWED_S = 300.0
"""Age in seconds from which a running hub's bundle should long have been signed anew: it does so every minute."""

SOON_S = 30 * 86_400
"""Seconds before its end from which a certificate is to be renewed."""

_AS_OPERATOR = "run this as the user that runs `pegboard up`"


def keys(facts: Facts) -> Iterator[Finding]:
    """The hub's private keys. Nothing of a key is ever said but its file, its age and its public name."""
    folder = facts.home.keys
    try:
        files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    except FileNotFoundError:
        files = []
    except PermissionError:
        yield warning(f"{folder} cannot be looked at", _AS_OPERATOR)
        return
    if not files:
        yield well("there are none yet; the first start makes them")
    published = _published(facts.home)
    for path in files:
        yield _key(path, published, facts.now)


def _key(path: Path, published: set[str], now: float) -> Finding:
    try:
        found = path.stat()
        if found.st_mode & 0o077:
            return must_mend(f"others may read the private key {path}", f"chmod 600 {path}; then replace the key")
        private = _private(json.loads(path.read_text(encoding="utf-8")))
        kids = [Signer(key).kid for key in private]
        public = [key for each in private for key in public_jwks(each)["keys"]]
    except PermissionError:
        return warning(f"{path} cannot be looked at", _AS_OPERATOR)
    except (OSError, ValueError, TypeError, KeyError):
        # The fault is not repeated: a parser's message may quote the key.
        return must_mend(f"{path} holds no private key", "restore it from a backup (pegboard restore)")
    age = f"{path.name} is {span(now - found.st_mtime)} old ({', '.join(kids)})"
    if path.name.startswith("bundle") and published and not {key["kid"] for key in public} & published:
        return must_mend(
            f"{age}, and the published bundle keys do not have it", "start the hub again: it publishes it"
        )
    return well(age)


def _private(document: Any) -> list[dict[str, Any]]:
    """The private keys of a file, which has one or a set of them."""
    found = document.get("keys", [document]) if isinstance(document, dict) else []
    return [dict(key) for key in found if isinstance(key, dict) and "d" in key] or [{}]


def _published(home: Home) -> set[str]:
    try:
        return {str(key["kid"]) for key in json.loads(home.bundle_keys.read_text(encoding="utf-8"))["keys"]}
    except (OSError, ValueError, KeyError, TypeError):
        return set()


def configured_certificates(_home: Home) -> list[Path]:
    """The PEM files that the instance serves with. None yet: the edge speaks HTTP on loopback."""
    return []


def certificates(
    facts: Facts, configured: Callable[[Home], list[Path]] = configured_certificates
) -> Iterator[Finding]:
    """Every certificate that is configured."""
    paths = configured(facts.home)
    if not paths:
        yield well("none are configured: the edge speaks HTTP on loopback, where no certificate is needed")
    for path in paths:
        yield _certificate(path, facts.now)


def _certificate(path: Path, now: float) -> Finding:
    try:
        chain = x509.load_pem_x509_certificates(path.read_bytes())
    except (OSError, ValueError) as error:
        return must_mend(f"{path} holds no certificate that can be read ({type(error).__name__})", "put one there")
    moment = datetime.fromtimestamp(now, UTC)
    first = min(chain, key=lambda certificate: certificate.not_valid_after_utc)
    left = (first.not_valid_after_utc - moment).total_seconds()
    name = f"{path} ({first.subject.rfc4514_string()})"
    if left <= 0:
        return must_mend(f"{name} ended {span(-left)} ago", "renew it")
    if (begins := max(each.not_valid_before_utc for each in chain)) > moment:
        return must_mend(f"{name} begins at {begins:%Y-%m-%d %H:%M} UTC", "set the clock right, or renew it")
    if left < SOON_S:
        return warning(f"{name} ends in {span(left)}", "renew it")
    return well(f"{name} ends in {span(left)}")


def bundles(facts: Facts) -> Iterator[Finding]:
    """What edge and servers decide with: signed by this hub, for this instance, and not too old."""
    try:
        verifier = Verifier(json.loads(facts.home.bundle_keys.read_text(encoding="utf-8")))
    except FileNotFoundError:
        yield well("there are none yet; the first start writes them")
        return
    except (OSError, ValueError, KeyError, TypeError):
        yield must_mend(f"{facts.home.bundle_keys} cannot be read", "start the hub again: it writes it")
        return
    ages, faults = [], []
    for consumer, path in _bundles(facts):
        try:
            bundle = open_bundle(path.read_text(encoding="utf-8"), verifier, consumer)
        except PermissionError:
            yield warning(f"{path} cannot be looked at", _AS_OPERATOR)
        except (OSError, BundleRefused) as error:
            faults.append(must_mend(f"the bundle of {consumer} is not used: {error}", "start the hub again"))
        else:
            ages.append(facts.now - bundle.issued_at)
            if fault := _bundle_fault(facts, consumer, bundle):
                faults.append(fault)
    yield from faults
    if ages and not faults:
        yield well(f"{plural(len(ages), 'bundle')}, all signed by this hub, the oldest {span(max(max(ages), 0))} ago")


def _bundle_fault(facts: Facts, consumer: str, bundle: Bundle) -> Finding | None:
    age = facts.now - bundle.issued_at
    if facts.public_url and bundle.issuer != facts.public_url:
        return must_mend(f"the bundle of {consumer} is for {bundle.issuer}", "start the instance again")
    if not facts.running:
        return None  # the next start signs them anew
    if bundle.too_old(facts.now):
        return must_mend(
            f"the bundle of {consumer} was signed {span(age)} ago: every call is refused",
            f"see why the hub does not renew it: {facts.home.log('hub')}",
        )
    if age > RENEWED_S:
        return warning(
            f"the bundle of {consumer} was signed {span(age)} ago; it is good for {span(bundle.max_age_s)}",
            f"see why the hub does not renew it: {facts.home.log('hub')}",
        )
    return None


def _bundles(facts: Facts) -> Iterator[tuple[str, Path]]:
    home = facts.home
    if home.edge_bundle.exists():
        yield EDGE, home.edge_bundle
    for path in sorted((home.root / "bundles").glob("*.*/bundle.jws")):
        namespace, _, name = path.parent.name.partition(".")
        yield f"{namespace}/{name}", path
