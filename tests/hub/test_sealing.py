"""What is sealed is opened by its own sealer and by nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from pegboard.core.errors import ConfigurationError
from pegboard_hub.common.home import Home
from pegboard_hub.identity.sealing import Sealer, open_sealing_key

KEY = b"k" * 32
TEXT = "refresh token of Añа"


def test_what_was_sealed_is_opened_and_looks_like_nothing() -> None:
    sealer = Sealer(KEY, "purpose")
    sealed = sealer.seal(TEXT)
    assert sealer.unseal(sealed) == TEXT
    assert sealed.isascii()
    assert "refresh" not in sealed
    assert sealer.seal(TEXT) != sealed


@pytest.mark.parametrize("sealer", [Sealer(KEY, "another purpose"), Sealer(b"x" * 32, "purpose")])
def test_another_purpose_or_key_opens_nothing(sealer: Sealer) -> None:
    with pytest.raises(ValueError, match="not sealed"):
        sealer.unseal(Sealer(KEY, "purpose").seal(TEXT))


@pytest.mark.parametrize("text", ["", "1.", "1.AAAA", "no base64 é", "x" * 5000])
def test_what_is_not_sealed_is_refused_in_order(text: str) -> None:
    with pytest.raises(ValueError, match="not sealed"):
        Sealer(KEY, "purpose").unseal(text)


def test_a_change_of_any_letter_is_noticed() -> None:
    sealer = Sealer(KEY, "purpose")
    sealed = sealer.seal("x")
    for place in range(2, len(sealed) - 1):
        other = "A" if sealed[place] != "A" else "B"
        with pytest.raises(ValueError, match="not sealed"):
            sealer.unseal(sealed[:place] + other + sealed[place + 1 :])


def test_the_key_is_made_once_and_is_the_hubs_alone(tmp_path: Path) -> None:
    home = Home.open(tmp_path / "home")
    first = open_sealing_key(home)
    assert open_sealing_key(home) == first
    assert home.sealing_key.stat().st_mode & 0o777 == 0o600


def test_a_key_that_is_open_or_none_is_refused(tmp_path: Path) -> None:
    home = Home.open(tmp_path / "home")
    open_sealing_key(home)
    home.sealing_key.chmod(0o644)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        open_sealing_key(home)
    home.sealing_key.write_text("no key")
    home.sealing_key.chmod(0o600)
    with pytest.raises(ConfigurationError, match="holds no key") as caught:
        open_sealing_key(home)
    assert "no key\n" not in str(caught.value)
