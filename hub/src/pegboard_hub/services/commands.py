"""`pegboard svid`: an X.509 SVID of the development CA, for a service on this machine."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Annotated

import typer

from pegboard.core.spiffe import SCHEME, is_spiffe_id
from pegboard_hub.common.home import Home, replace_file
from pegboard_hub.common.noted import noted
from pegboard_hub.services.authority import LONGEST_S, SETTLE_S, Authority
from pegboard_hub.services.material import Svid

CHAIN, KEY, BUNDLE = "svid.pem", "svid_key.pem", "bundle.pem"
"""Files of an SVID, called as SPIRE's agent calls those that it writes."""

_UNITS = {"s": 1, "m": 60, "h": 3600}


def _seconds(text: str) -> int:
    found = re.fullmatch(r"([1-9][0-9]{0,5})([smh]?)", text)
    seconds = int(found[1]) * _UNITS[found[2] or "s"] if found else 0
    if not 1 <= seconds <= LONGEST_S:
        raise typer.BadParameter(f"{text!r} is not a time up to an hour, for example 10m.")
    return seconds


def svid(
    name: Annotated[str, typer.Argument(help="Whose: a path such as reporting/nightly, or a whole SPIFFE ID.")] = "",
    ttl: Annotated[str, typer.Option(help="How long it lives, an hour at most: 30s, 10m, 1h.")] = "1h",
    out: Annotated[Path, typer.Option(help=f"Folder for {CHAIN}, {KEY} and {BUNDLE}.")] = Path("svid"),
    keep: Annotated[bool, typer.Option("--keep", help="Stay, and renew the files at half of their life.")] = False,
    rotate_authority: Annotated[
        bool, typer.Option("--rotate-authority", help="Make another CA key, and end.")
    ] = False,
    home: Annotated[Path, typer.Option(envvar="PEGBOARD_HOME", help="Folder of the instance.")] = Path(".pegboard"),
) -> None:
    """Sign a certificate for a service, with the development CA of an instance on this machine.

    \b
    Examples:
      pegboard svid reporting --ttl 10m --out ./svid
      pegboard svid reporting --out ./svid --keep
      pegboard svid --rotate-authority
    """
    authority = _authority(home)
    if rotate_authority:
        authority.rotate()
        print(f"Another CA key counts now and signs in {SETTLE_S} s; what the last one signed counts until it ends.")
        return
    if not name:
        raise typer.BadParameter("say whose it is: pegboard svid reporting")
    spiffe_id = name if name.startswith(SCHEME) else f"{SCHEME}{authority.trust_domain}/{name.strip('/')}"
    if not is_spiffe_id(spiffe_id):
        raise typer.BadParameter(f"{spiffe_id!r} is no SPIFFE ID: use letters, digits, '.', '_', '-' and '/'.")
    ttl_s = _seconds(ttl)
    try:
        while True:
            minted, bundle = authority.mint(spiffe_id, ttl_s), authority.bundle
            _write(out, minted, bundle)
            until = time.strftime("%H:%M:%S", time.localtime(minted.ends_at))
            print(f"{spiffe_id} until {until}, in {out}", flush=True)
            if not keep:
                return
            while minted.ends_at - time.time() > ttl_s / 2 and authority.bundle == bundle:
                time.sleep(1)
    except ValueError as error:
        raise typer.BadParameter(f"{error}.") from error
    except KeyboardInterrupt:
        return


def _authority(home: Path) -> Authority:
    """The development CA of the instance.

    Raises:
        typer.BadParameter: the instance has none.
    """
    opened = Home.at(home)
    services = noted(opened).get("services")
    if not services:
        raise typer.BadParameter(f"the instance of {home} takes no services: start it with --mtls-port 8443.")
    if services.get("workload_api"):
        mend = "register the service there instead"
        raise typer.BadParameter(
            f"the instance of {home} has its identities from {services['workload_api']}: {mend}."
        )
    authority = Authority(opened.services, services["trust_domains"][0])
    authority.open()
    return authority


def _write(folder: Path, minted: Svid, bundle: str) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    replace_file(folder / BUNDLE, bundle, 0o644)
    # Key and certificate are two files, as programs want them; whoever reads between the two tries again.
    replace_file(folder / KEY, minted.key, 0o600)
    replace_file(folder / CHAIN, minted.chain, 0o644)
