"""`pegboard doctor` on how people sign in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pegboard_hub.upkeep.checks.login import sign_in
from pegboard_hub.upkeep.doctor import gather
from pegboard_hub.upkeep.finding import Finding, State
from tests.ports import free_port
from tests.providers.scripted import CLIENT, SECRET, Scripted, changed


def found(folder: Path, file: Path | None, *, offline: bool = False) -> list[Finding]:
    facts = replace(gather(folder / "none", free_port(), None, offline=offline), sign_in=file)
    return list(sign_in(facts))


def written(folder: Path, provider: Scripted) -> Path:
    (folder / "secret").write_text(SECRET)
    (folder / "secret").chmod(0o600)
    (folder / "sign-in.toml").write_text(
        f'[provider]\nissuer = "{provider.issuer}"\nclient_id = "{CLIENT}"\nclient_secret = {{ file = "secret" }}\n'
    )
    return folder / "sign-in.toml"


def test_without_a_file_people_are_the_demos(tmp_path: Path) -> None:
    [finding] = found(tmp_path, None)
    assert finding.state is State.WELL
    assert "demo directory" in finding.found


def test_a_login_that_answers_is_well_and_its_secret_is_not_told(tmp_path: Path) -> None:
    with Scripted().serving() as provider:
        [finding] = found(tmp_path, written(tmp_path, provider))
    assert finding.state is State.WELL
    assert "answers, with keys" in finding.found
    assert SECRET not in finding.found


def test_a_login_that_does_not_answer_is_a_warning_and_is_not_asked_offline(tmp_path: Path) -> None:
    with Scripted(down=True).serving() as provider:
        file = written(tmp_path, provider)
        [finding] = found(tmp_path, file)
        asked = len(provider.asked)
        [unasked] = found(tmp_path, file, offline=True)
        assert len(provider.asked) == asked
    assert finding.state is State.WARNING
    assert "does not answer" in finding.found
    assert unasked.state is State.WELL


def another_issuer(provider: Scripted, _file: Path) -> None:
    provider.lies["metadata"] = changed(issuer="https://another.example")


def no_keys(provider: Scripted, _file: Path) -> None:
    provider.lies["keys"] = changed(keys=[])


def no_secret(_provider: Scripted, file: Path) -> None:
    file.with_name("secret").unlink()


def an_open_secret(_provider: Scripted, file: Path) -> None:
    file.with_name("secret").chmod(0o644)


def a_typing_error(_provider: Scripted, file: Path) -> None:
    file.write_text(file.read_text().replace("client_id", "cliend_id"))


def no_file(_provider: Scripted, file: Path) -> None:
    file.unlink()


FAULTS: list[tuple[Callable[[Scripted, Path], None], str]] = [
    (another_issuer, "calls itself 'https://another.example'"),
    (no_keys, "no key that can be used"),
    (no_secret, "cannot be read"),
    (an_open_secret, "others may read"),
    (a_typing_error, "did you mean 'client_id'"),
    (no_file, "cannot be read"),
]


@pytest.mark.parametrize(("break_it", "said"), FAULTS, ids=lambda each: getattr(each, "__name__", ""))
def test_what_must_be_mended_is_named(tmp_path: Path, break_it: Callable[[Scripted, Path], None], said: str) -> None:
    with Scripted().serving() as provider:
        file = written(tmp_path, provider)
        break_it(provider, file)
        findings = found(tmp_path, file)
    assert {finding.state for finding in findings} == {State.MEND}
    assert any(said in finding.found for finding in findings)
