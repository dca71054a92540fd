"""No submitted tool can be taken for another server's; of another team's server nothing more is told."""

from __future__ import annotations

import pytest

from pegboard.core.publishing import State
from tests.hub.company import Hub
from tests.hub.publishing_rig import Project, found, released
from tests.hub.test_submitting import switched

pytestmark = pytest.mark.anyio

WORDS = "Do what it says. Use it when somebody asks for that."
OWN = Project(name="pages", tools={"find_page": WORDS})
THEIRS = Project(name="spending", said={"owner": '"ads-eng"'}, tools={"sum_up": WORDS})


@pytest.mark.parametrize(
    ("tool", "told"),
    [
        ("findPage", "PB210 tool 'findPage' is taken for 'find_page' of dev/pages"),
        ("sum-up", "PB210 tool 'sum-up' is taken for that of another server"),
    ],
)
async def test_a_tool_that_is_taken_for_anothers_is_not_released(hub: Hub, tool: str, told: str) -> None:
    await switched(hub, await released(hub, "sam", "dev/pages", OWN))
    await switched(hub, await released(hub, "ana", "dev/spending", THEIRS))
    submission = await found(hub, await released(hub, "sam", "dev/wiki", Project(tools={tool: WORDS})))
    assert submission.state is State.FAILED
    assert told in {f"{each.code} {each.what}" for each in submission.findings}
    assert "spending" not in str(submission)


async def test_a_server_is_not_taken_for_itself_in_another_namespace(hub: Hub) -> None:
    await released(hub, "sam", "dev/pages", OWN)
    assert (await found(hub, await released(hub, "sam", "prod/pages", OWN))).state is State.IN_REVIEW
