"""Every rule of the check: its code, how much it weighs, and why there is one. The reference page is made of this."""

from __future__ import annotations

from typing import Final, NamedTuple

from pegboard.core.publishing import Finding, Severity


class Rule(NamedTuple):
    """One rule.

    Attributes:
        code: stable; what a finding, a SARIF report and the reference page name it by.
        severity: what a finding of it keeps from happening.
        title: what is wrong, in a few words.
        why: what it protects, for whoever doubts it.
        fix: what to do where a finding does not say it more exactly.
    """

    code: str
    severity: Severity
    title: str
    why: str
    fix: str

    def at(self, place: str, what: str, fix: str | None = None, severity: Severity | None = None) -> Finding:
        """A finding of this rule."""
        return Finding(
            code=self.code,
            severity=severity or self.severity,
            place=place,
            what=what,
            fix=self.fix if fix is None else fix,
        )


ERROR, WARNING, NOTE = Severity.ERROR, Severity.WARNING, Severity.NOTE

SUBJECTS: Final[dict[str, str]] = {
    "PB1": "Manifest and project",
    "PB2": "Tools",
    "PB3": "Policies",
    "PB4": "Dependencies",
    "PB5": "Secrets",
    "PB6": "Text that models read",
    "PB7": "What it reaches",
    "PB8": "Smoke calls",
}
"""What codes that begin alike are about."""

_TABLE: Final[tuple[Rule, ...]] = (
    Rule(
        "PB101",
        ERROR,
        "The manifest does not read",
        "Everything that is known of a server before its code runs stands in pegboard.toml.",
        "Write it as the reference of pegboard.toml says.",
    ),
    Rule(
        "PB102",
        ERROR,
        "The code does not load, or declares nothing",
        "The platform imports the entry to read its tools; importing must only declare.",
        "Run the project's own tests, then `uv run pegboard check`.",
    ),
    Rule(
        "PB103",
        ERROR,
        "What is declared cannot be taken",
        "Models read a declaration, people approve it, pages show it: nothing in it may hide, pass for something "
        "else, or be larger than its readers can bear.",
        "Do what the finding says.",
    ),
    Rule(
        "PB104",
        ERROR,
        "The server's name is taken for another's",
        "A person who approves the one, and a model that calls the other, do not see the difference.",
        "Choose a name that reads differently.",
    ),
    Rule(
        "PB105",
        WARNING,
        "The server's name is one slip from another's",
        "One letter left out, put in or swapped, and people reach a server that they did not mean.",
        "Choose another name, or tell your reviewers why it must be this one.",
    ),
    Rule(
        "PB106",
        WARNING,
        "A text is still the template's",
        "People decide by it whether this is the server they need.",
        "Say what the server is for.",
    ),
    Rule(
        "PB107",
        WARNING,
        "Nobody is let in",
        "Without a business group that it asks for, nobody will be granted the server's use.",
        "Name the groups that need it under [requests] business_groups.",
    ),
    Rule(
        "PB201",
        ERROR,
        "A tool says nothing about access",
        "Deny by default: a tool that nobody was named for is a tool that nobody may use.",
        "Add @authorize_tool(policy=…) and the policy's file.",
    ),
    Rule(
        "PB202",
        ERROR,
        "A tool has no description",
        "A model chooses a tool by its description alone.",
        "Write a docstring: what it does, and when to use it.",
    ),
    Rule(
        "PB203",
        WARNING,
        "A description says too little",
        "A model that does not know when to use a tool uses it at the wrong time, or never.",
        "Say what it answers or changes, when to use it, and what to use instead where it does not fit.",
    ),
    Rule(
        "PB204",
        ERROR,
        "An argument has no type",
        "A model guesses what to send, a policy cannot compare it, and an approver cannot read it.",
        "Annotate the parameter, for example `days: int`.",
    ),
    Rule(
        "PB205",
        WARNING,
        "A tool's answer has no type",
        "Clients and models read a structured answer more surely than text.",
        "Annotate what the function returns, for example `-> Forecast`.",
    ),
    Rule(
        "PB206",
        NOTE,
        "An argument has no description",
        "Its name alone seldom says which values are good.",
        'Annotate it: `Annotated[str, Field(description="…")]`.',
    ),
    Rule(
        "PB207",
        WARNING,
        "A tool does not say how many minutes it saves",
        "What a server is worth is added up from what its owners say each call saves.",
        "Add @saves(minutes=…); 0 is an answer, too.",
    ),
    Rule(
        "PB208",
        WARNING,
        "The tool list is long",
        "The whole list stands in a model's context before anybody asked anything, on every turn.",
        "Shorten the costliest tools, or split the server.",
    ),
    Rule(
        "PB209",
        WARNING,
        "One tool's declaration is long",
        "It costs every caller of the server, also those who never use the tool.",
        "Shorten its description, and the schemas of its arguments and answer.",
    ),
    Rule(
        "PB210",
        ERROR,
        "A tool's name is taken for another server's",
        "Two tools that look the same are mistaken for each other by people and models: the one is approved, the "
        "other called.",
        "Give it a name that differs in more than case, separators, and signs that look alike.",
    ),
    Rule(
        "PB211",
        NOTE,
        "Another server has a tool of this name",
        "An agent that is connected to both must tell them apart by their descriptions.",
        "Choose a name that says of what, for example search_tickets rather than search.",
    ),
    Rule(
        "PB212",
        NOTE,
        "A description does not say when to use the tool",
        "What it does is half of it: a model with forty tools asks when this one is right. Found by words (use, "
        "when, before, instead …), so a description that says it otherwise is noted, too.",
        "Add a sentence, for example: Use it when somebody asks why a table is late.",
    ),
    Rule(
        "PB220",
        ERROR,
        "Hints contradict each other",
        "Clients skip a question, and services are let in, because of what a hint says.",
        "Keep the hint that is true.",
    ),
    Rule(
        "PB221",
        ERROR,
        "A tool that calls itself read-only has the name of one that is not",
        "Read-only tools are open to services, to reading alone, and to smoke calls.",
        "Take read_only_hint away, or name the tool for what it does.",
    ),
    Rule(
        "PB222",
        WARNING,
        "A tool whose name destroys says that it does not",
        "People let a client run what is not destructive without asking them.",
        "Set destructive_hint=True and let it ask, or name the tool for what it does.",
    ),
    Rule(
        "PB223",
        WARNING,
        "A tool that writes says nothing of destruction",
        "Clients take silence for yes (MCP's default) and ask people each time.",
        "Set destructive_hint in its annotations, or read_only_hint where it only reads.",
    ),
    Rule(
        "PB224",
        ERROR,
        "What a tool asks people cannot be asked",
        "What destroys must ask somebody, and whoever is asked must be able to answer.",
        "Do what the finding says.",
    ),
    Rule(
        "PB225",
        WARNING,
        "A tool that calls itself read-only asks for a confirmation",
        "What needs a person's yes because it changes something is not read-only; what is read-only is open to "
        "services, who cannot confirm.",
        "Take read_only_hint away where it changes something; else leave out @confirm.",
    ),
    Rule(
        "PB301",
        ERROR,
        "A policy does not parse",
        "A tool without a policy that can be evaluated is refused to everybody.",
        "Mend it where the finding says; the policy that `pegboard new` writes is a pattern.",
    ),
    Rule(
        "PB302",
        ERROR,
        "A policy does not fit the schema",
        "Cedar skips a condition that errs: a `forbid` that compares a text with a number forbids nothing.",
        "Compare each argument with what its tools declare it to be.",
    ),
    Rule(
        "PB303",
        WARNING,
        "A policy is always true",
        "Whoever reaches the server may use the tool, whatever the policy seems to say. An error where the tool "
        "writes, or the server's data is confidential or restricted.",
        'Name the groups that need it; or say why everybody may, on the policy: @reason("…").',
    ),
    Rule(
        "PB304",
        WARNING,
        "A policy lets in nobody who can reach the server",
        "A tool that nobody may use only costs.",
        "Name a group that the manifest asks for.",
    ),
    Rule(
        "PB305",
        NOTE,
        "A policy names a group that the manifest does not ask for",
        "Its people are stopped at the server's door, before the policy is asked.",
        "Ask for the group under [requests] business_groups, or take it out of the policy.",
    ),
    Rule(
        "PB306",
        NOTE,
        "A policy is used by no tool",
        "It is no part of the release, and a reader takes it for one.",
        "Take the file away, or name it in @authorize_tool.",
    ),
    Rule(
        "PB307",
        WARNING,
        "A policy lets people see a tool that none of them can call, or call one that they cannot see",
        "An agent tries what it sees; what is not listed is refused to whoever calls it.",
        "Permit both actions to the same people, and judge arguments for `call` alone.",
    ),
    Rule(
        "PB308",
        NOTE,
        "A policy tells nobody apart",
        "It judges surfaces or arguments, and lets in whoever reaches the server: nothing else protects the tool.",
        "Where that is not meant: name the groups that need it.",
    ),
    Rule(
        "PB309",
        WARNING,
        "A policy has more cases than the check tries",
        "Whether it is always true, and for whom, was not found out.",
        "Shorten the policy, or let it read fewer arguments. Your reviewers will want to read all of it.",
    ),
    Rule(
        "PB401",
        ERROR,
        "There is no lock file",
        "Without one, what runs tomorrow is not what was checked today.",
        "Run `uv lock` in the project's folder, and keep uv.lock beside pyproject.toml.",
    ),
    Rule(
        "PB402",
        ERROR,
        "The lock file is not of this pyproject.toml",
        "What is installed is what the lock file says, and the other file says something else.",
        "Run `uv lock` again.",
    ),
    Rule(
        "PB403",
        ERROR,
        "A locked package has no hash",
        "Whoever can change what an index serves would change what runs.",
        "Lock it from an index that gives hashes.",
    ),
    Rule(
        "PB404",
        ERROR,
        "A locked version was yanked",
        "Whoever made it took it back (PEP 592): it is broken, or unsafe.",
        "Run `uv lock --upgrade-package NAME`.",
    ),
    Rule(
        "PB405",
        ERROR,
        "A locked version is known to be malicious",
        "It was published to harm whoever installs it.",
        "Take the package out; if it was ever installed, treat that machine's secrets as known.",
    ),
    Rule(
        "PB406",
        WARNING,
        "A locked version has a known vulnerability",
        "An attacker reads the same advisories.",
        "Run `uv lock --upgrade-package NAME`, or tell your reviewers why it does not apply.",
    ),
    Rule(
        "PB407",
        ERROR,
        "A package comes from a place that the operator does not allow",
        "What is fetched from a repository or an address was looked at by nobody, and can be gone tomorrow.",
        "Use a release from the company's package index or PyPI.",
    ),
    Rule(
        "PB408",
        NOTE,
        "A package's licence is not known",
        "The company may use what its licence allows.",
        "Look at the package's page.",
    ),
    Rule(
        "PB409",
        ERROR,
        "A package has a licence that the operator does not allow",
        "The company may use what its licence allows.",
        "Use another package, or ask the platform team.",
    ),
    Rule(
        "PB410",
        NOTE,
        "Packages could not be looked up",
        "Whether one was yanked, or is known to be malicious, is known to the index and to advisories alone.",
        "The hub looks again when the release is submitted.",
    ),
    Rule(
        "PB411",
        ERROR,
        "The project does not depend on the kit",
        "The kit is what verifies callers and asks the policies.",
        'Add "pegboard" to the dependencies in pyproject.toml.',
    ),
    Rule(
        "PB501",
        ERROR,
        "A secret stands in a file",
        "Whoever may read the release, or the repository, has it from now on.",
        "Revoke it where it was issued, take it out, and name it under [secrets] by reference.",
    ),
    Rule(
        "PB502",
        WARNING,
        "Something looks like a secret",
        "A long random text beside a word like `token` is one more often than not.",
        "Where it is one: revoke it, and name it under [secrets] by reference. Where it is none: say so with the "
        "comment `# pegboard: no secret` on its line.",
    ),
    Rule(
        "PB503",
        ERROR,
        "A file holds secrets by its nature",
        "Keys and .env files do not belong into a release.",
        "Take it out of the project's folder, and name what it holds under [secrets] by reference.",
    ),
    Rule(
        "PB601",
        ERROR,
        "A text gives models instructions that are none of its tool's",
        "Tool poisoning: an agent reads a description as it reads its user, and does what it says.",
        "Describe what the tool does and when to use it, and nothing about what else an agent should do or hide.",
    ),
    Rule(
        "PB602",
        ERROR,
        "A text hides characters",
        "What nobody can see says something else to a model than to the person who approved it.",
        "Leave them out.",
    ),
    Rule(
        "PB603",
        ERROR,
        "A text steers the use of other servers' tools",
        "Tool shadowing: one server's description changes how an agent uses another's tools.",
        "Describe this server's tools alone.",
    ),
    Rule(
        "PB604",
        ERROR,
        "A text asks for what a tool should not be told",
        "Exfiltration: files, keys, other tools' answers or the conversation, handed over as an argument.",
        "Ask for what the tool needs, by an argument with a name that says it.",
    ),
    Rule(
        "PB605",
        ERROR,
        "A text holds something encoded",
        "A model decodes what a person who approves cannot read.",
        "Write it in plain words.",
    ),
    Rule(
        "PB606",
        ERROR,
        "A text holds markup that shows something else than it says",
        "Comments, images from elsewhere and terminal codes are not seen by people, or send data as they are drawn.",
        "Write plain text.",
    ),
    Rule(
        "PB607",
        ERROR,
        "A text writes a word in several alphabets",
        "It looks like another word, to a person and to whoever searches for it.",
        "Write each word in one alphabet.",
    ),
    Rule(
        "PB608",
        WARNING,
        "A text names an address that nobody declared",
        "An agent that can fetch will fetch it, and may take along what it knows.",
        "Put documentation under [links], or take the address out.",
    ),
    Rule(
        "PB701",
        ERROR,
        "An address under egress cannot be one",
        "The network is opened by these lines.",
        "Write host:port, for example api.example.com:443.",
    ),
    Rule(
        "PB702",
        ERROR,
        "Egress is declared that the operator does not allow",
        "What a server can reach, it can send data to.",
        "Ask the platform team, with the reason; or take it out.",
    ),
    Rule(
        "PB703",
        WARNING,
        "The code addresses a host that is not declared",
        "The call will fail: nothing that is not declared is reached.",
        "Add it under egress as host:port, or take the code out.",
    ),
    Rule(
        "PB704",
        WARNING,
        "The code can use the network, and no egress is declared",
        "The call will fail: nothing that is not declared is reached.",
        "Add what it reaches under egress as host:port.",
    ),
    Rule(
        "PB705",
        NOTE,
        "The code starts programs, runs text as code, or reads what is stored as code",
        "A reviewer will want to see that no argument of a caller's gets there.",
        "Tell your reviewers what it is for.",
    ),
    Rule(
        "PB706",
        NOTE,
        "Egress is declared that no code seems to use",
        "What is open and not needed helps an attacker alone.",
        "Take it out where it is not needed; a host that is read from a setting is not seen by the check.",
    ),
    Rule(
        "PB801",
        ERROR,
        "A smoke call names a tool that there is not",
        "A new replica that cannot answer its smoke calls never serves.",
        "Name a tool of this server.",
    ),
    Rule(
        "PB802",
        ERROR,
        "A smoke call is of a tool that may not be called without a person",
        "They run at every start, as nobody: only what reads, and asks nobody, may.",
        "Name a tool with read_only_hint=True that asks for no approval and no confirmation.",
    ),
    Rule(
        "PB803",
        ERROR,
        "A smoke call's arguments do not fit",
        "A new replica that cannot answer its smoke calls never serves.",
        "Write arguments as the tool's schema asks.",
    ),
    Rule(
        "PB804",
        NOTE,
        "There is no smoke call",
        "A release that starts and answers nothing right takes over all the same.",
        "Add one of a read-only tool under [[smoke]].",
    ),
)

RULES: Final[dict[str, Rule]] = {rule.code: rule for rule in _TABLE}
"""Every rule by its code."""
