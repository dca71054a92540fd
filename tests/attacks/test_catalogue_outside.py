"""The part of the catalogue that needs an address and a token alone, on a whole instance as its users start it."""

from __future__ import annotations

import pytest

from tests.attacks.catalogue.attack import OWN, Request
from tests.attacks.catalogue.outside import Outside
from tests.attacks.catalogue.stand import WHOLE
from tests.attacks.catalogue.table import ATTACKS
from tests.system.instance import Instance

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("instance")]


def test_nothing_gets_through_from_outside(pegboard: Instance) -> None:
    outside = Outside(pegboard.public_url, "prod/presto", pegboard.token("fay"))
    honest = outside.send(WHOLE, Request(OWN, "prod/presto", tool="no_such_tool"))
    assert '"result"' in honest.text, "an attack that succeeds would not be seen"
    fitting = [attack for attack in ATTACKS if outside.fits(attack)]
    assert len(fitting) >= 150
    assert {attack.id: through for attack in fitting if (through := outside.attempt(attack)[1])} == {}
