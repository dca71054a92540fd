"""What the instance is trusted by: keys, certificates, bundles."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509

from pegboard.core.bundle import EDGE, Bundle, open_bundle
from pegboard.core.errors import BundleRefused, ConfigurationError
from pegboard.core.jose import Verifier
from pegboard.core.names import ServerName
from pegboard_hub.common.certificates import TlsFiles, covers, noted_files, open_pair
from pegboard_hub.common.home import Home
from pegboard_hub.common.noted import noted
from pegboard_hub.identity.leaks import read_leaks
from pegboard_hub.identity.ring import KeyState, Purpose, RingKey, read_ring
from pegboard_hub.identity.sealing import read_sealing_key
from pegboard_hub.upkeep.files import read_own
from pegboard_hub.upkeep.finding import Facts, Finding, must_mend, plural, span, warning, well

ROTATED_S = 300.0
"""Seconds after which a rotation should long have ended: it takes a few."""

SOON_S = 30 * 86_400
"""Seconds before its end from which a certificate is to be renewed."""

_AS_OPERATOR = "run this as the user that runs `pegboard up`"


def keys(facts: Facts) -> Iterator[Finding]:
    """The hub's rings of keys. Nothing of a key is ever said but its file, its state, its age and its public name."""
    home = facts.home
    rings: tuple[tuple[Purpose, Path], ...] = (
        ("tokens", home.token_ring),
        ("bundles", home.bundle_ring),
        ("releases", home.release_ring),
    )
    try:
        there = [(purpose, path) for purpose, path in rings if path.exists()]
    except PermissionError:
        yield warning(f"{facts.home.keys} cannot be looked at", _AS_OPERATOR)
        return
    if not there:
        yield well("there are none yet; the first start makes them")
    published = _published(facts.home)
    yield from _given_up(facts, [path for _, path in there], published)
    for purpose, path in there:
        yield _ring(purpose, path, published, facts)
    if facts.home.sealing_key.exists():
        yield _sealing(facts.home.sealing_key)


def _given_up(facts: Facts, rings: list[Path], published: set[str]) -> Iterator[Finding]:
    """When keys were given up because they leaked, and whether one of them came back."""
    try:
        leaks = read_leaks(facts.home.keys)
    except ConfigurationError as error:
        yield must_mend(f"{error.where} {error.problems[0]}", error.problems[-1])
        return
    if not leaks:
        return
    last = leaks[-1]
    leaked = {kid for leak in leaks for kids in leak.kids.values() for kid in kids}
    back = {kid for path in rings for kid in leaked if kid in path.read_text(encoding="utf-8")} | leaked & published
    if back:
        mend = "start the hub: it leaves them out; or run pegboard keys leaked"
        yield must_mend(f"{plural(len(back), 'key')} that leaked came back: {', '.join(sorted(back))}", mend)
    told = f"{plural(len(leaks), 'time')} keys were given up, last {span(max(facts.now - last.at, 0))} ago"
    yield well(f"{told} ({', '.join(last.purposes)}): {last.why or 'no reason was noted'}")


def _ring(purpose: Purpose, path: Path, published: set[str], facts: Facts) -> Finding:
    try:
        if path.stat().st_mode & 0o077:
            mend = f"chmod 600 {path}; then replace the key: pegboard keys rotate {purpose}"
            return must_mend(f"others may read the private key {path}", mend)
        ring = read_ring(path, purpose, facts.now, 0)
    except PermissionError:
        return warning(f"{path} cannot be looked at", _AS_OPERATOR)
    except ConfigurationError as error:
        words = error.problems[0].partition(";")[0]
        mend = error.problems[1] if error.problems[1:] else "restore it from a backup (pegboard restore)"
        return must_mend(f"{path} {words}", mend)
    told = "; ".join(_key(key, facts.now) for key in ring)
    found = f"{path.name}: {told}"
    waits = max((facts.now - key.made_at for key in ring if key.state is KeyState.NEXT), default=0.0)
    if purpose == "bundles" and published and any(key.kid not in published for key in ring):
        return must_mend(f"{found}; the published bundle keys do not have it", "start the hub again: it publishes it")
    if facts.running and waits > ROTATED_S:
        mend = "`pegboard keys list` says for whom; mend that process, or withdraw the server in the grants file"
        return warning(f"{found}; the rotation has waited for {span(waits)}", mend)
    return well(found)


def _sealing(path: Path) -> Finding:
    try:
        if path.stat().st_mode & 0o077:
            return must_mend(
                f"others may read the key {path}", f"chmod 600 {path}; remove it, and everybody signs in anew"
            )
        read_sealing_key(path)
    except PermissionError:
        return warning(f"{path} cannot be looked at", _AS_OPERATOR)
    except ConfigurationError as error:
        return must_mend(f"{path} {error.problems[0]}", error.problems[-1])
    return well(f"{path.name}: seals what is kept of sign-ins")


def _key(key: RingKey, now: float) -> str:
    if key.state is KeyState.RETIRED:
        return f"{key.kid} is retired, and verified with for {span(max((key.until or now) - now, 0))} yet at most"
    return f"{key.kid} is the {key.state} one, {span(max(now - key.made_at, 0))} old"


def _published(home: Home) -> set[str]:
    try:
        return {str(key["kid"]) for key in json.loads(home.bundle_keys.read_text(encoding="utf-8"))["keys"]}
    except (OSError, ValueError, KeyError, TypeError):
        return set()


def configured_certificates(home: Home) -> list[Path]:
    """The PEM files that the instance was last started to serve with."""
    files = noted_files(noted(home))
    return [files.certificate] if files else []


def certificates(
    facts: Facts, configured: Callable[[Home], list[Path]] = configured_certificates
) -> Iterator[Finding]:
    """Every certificate that is configured."""
    paths = configured(facts.home)
    if not paths:
        yield well("none are configured: the edge speaks HTTP on loopback, where no certificate is needed")
    for path in paths:
        yield _certificate(path, facts.now)
    if paths and (files := noted_files(noted(facts.home))):
        yield from _served(files, facts)


def _served(files: TlsFiles, facts: Facts) -> Iterator[Finding]:
    """What else must hold for the pair that the edge serves with."""
    try:
        leaf = open_pair(files, facts.now).leaf
    except ConfigurationError as error:
        yield must_mend(f"{error.where}: {error.problems[0]}", error.problems[-1])
        return
    if files.key.stat().st_mode & 0o077:
        yield must_mend(f"others than its owner can read {files.key}", f"chmod 600 {files.key}, and get a new key")
    host = urlsplit(facts.public_url).hostname or ""
    if not covers(leaf, host):
        yield must_mend(f"{files.certificate} is not for {host}, which callers use", "get one with that name in it")


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
            if fault := _bundle_fault(facts, consumer, bundle) or _not_taken(facts, verifier, bundle):
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
    if bundle.stops_too_old(facts.now):
        return warning(
            f"the bundle of {consumer} was signed {span(age)} ago: servers with sensitive data refuse, "
            f"and all once it is {span(bundle.max_age_s)} old",
            f"see why the hub does not renew it: {facts.home.log('hub')}",
        )
    return None


def _not_taken(facts: Facts, verifier: Verifier, bundle: Bundle) -> Finding | None:
    """A consumer never goes back to a lower version: one that a wrong clock gave keeps all later ones out."""
    consumer = bundle.consumer
    server = None if consumer == EDGE else ServerName.parse(consumer)
    accepted = (facts.home.edge if server is None else facts.home.spool(server)) / "accepted.jws"
    try:
        text = (read_own(accepted, accepted.parent.stat().st_uid) or b"").decode()
        used = open_bundle(text, verifier, consumer)
    except (OSError, ValueError, BundleRefused):
        return None  # it has none, or one that does not verify any more: it takes the next
    if used.version <= bundle.version:
        return None
    return must_mend(
        f"{consumer} goes on with version {used.version} of its bundle, and the hub's is {bundle.version}: no change "
        "of grants arrives there",
        f"see that the clock is right; then stop the instance, remove {accepted}, and start it again",
    )


def _bundles(facts: Facts) -> Iterator[tuple[str, Path]]:
    home = facts.home
    if home.edge_bundle.exists():
        yield EDGE, home.edge_bundle
    for path in sorted((home.root / "bundles").glob("*.*/bundle.jws")):
        namespace, _, name = path.parent.name.partition(".")
        yield f"{namespace}/{name}", path
