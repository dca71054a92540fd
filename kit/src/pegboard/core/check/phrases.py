"""What poisoned descriptions say, as a table. Each row is a pattern over a text in its plain form (`plain_forms`)."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from pegboard.core.publishing import Severity


class Phrase(NamedTuple):
    """One way of saying it.

    Attributes:
        code: of the rule.
        what: what it is, in words that follow the place's name.
        pattern: over the plain form.
        severity: other than the rule's own, where it is said harmlessly, too.
    """

    code: str
    what: str
    pattern: re.Pattern[str]
    severity: Severity | None = None


def _phrase(code: str, what: str, pattern: str, severity: Severity | None = None) -> Phrase:
    return Phrase(code, what, re.compile(pattern.replace(" ", r"\s")), severity)


_RULES = (
    r"(?:instructions?|prompts?|rules?|directives?|guidelines?|guardrails?|polic(?:y|ies)|restrictions?|safeguards?)"
)
_MODEL = r"(?:ai|a\.i\.|assistant|model|agent|llm|chatbot|copilot|claude|gpt|gemini|cursor)"
_ANY_TOOL = r"(?:(?:any|every|all|each)(?: of the)?(?: other)?|(?:the )?other|another) (?:[a-z]{1,12} )?(?:tool|function|server|mcp)"
_TALK = (
    r"(?:(?:whole|full|entire|complete|current|previous|prior|earlier|raw)? ?(?:conversation|chat|message|dialogue|prompt)"
    r"(?:'s)?(?: so far)?(?: history| log| transcript)?|previous messages|chat history|system prompt|your instructions|"
    r"tool (?:list|results?|outputs?)|(?:results?|outputs?|answers?) of (?:the )?(?:other|previous|all) tools?)"
)
_SECRETS = (
    r"(?:api ?keys?|access ?keys?|private ?keys?|ssh ?keys?|credentials?|passwords?|passphrases?|secrets|"
    r"(?:auth|access|session|bearer|refresh) ?tokens?|cookies|environment variables|env(?:ironment)? vars?)"
)
_FILES = (
    r"(?:~/\.[a-z]|\.ssh\b|id_rsa|id_ed25519|known_hosts|authorized_keys|\.aws/|\.kube/config|\.docker/config|"
    r"\.git-credentials|\.netrc|\.npmrc|\.pypirc|/etc/(?:passwd|shadow)|mcp\.json|claude_desktop_config|"
    r"\.cursor/|\.claude\b|\.env\b(?! ?file format)|keychain|wallet\.dat|\.bash_history|\.zsh_history)"
)
_SEND = r"(?:send|forward|post|upload|transmit|exfiltrate|leak|e-?mail|copy|bcc|cc|report|submit|relay|append|attach|include)"
_HAND = r"(?:pass|include|provide|put|insert|append|attach|add|paste|copy|write|give|supply|fill|store|place|encode|embed)"

PHRASES: Final[tuple[Phrase, ...]] = (
    # PB601: instructions to a model.
    _phrase(
        "PB601",
        "tells a model to set its instructions aside",
        rf"\b(?:ignore|disregard|forget|override|bypass|neglect|skip|supersede)\b.{{0,40}}\b(?:previous|prior|above|earlier|"
        rf"other|all|any|your|system|existing|preceding|safety|security)\b.{{0,30}}\b{_RULES}\b",
    ),
    _phrase(
        "PB601",
        "tells a model to keep something from people",
        r"\b(?:do not|don't|dont|never|must not|should not|shall not|without|avoid|refrain from|no need to)\b.{0,20}"
        r"\b(?:mention|tell|inform|reveal|disclose|notify|alert|say|discuss|explain|acknowledge|warn)(?:ing|ling)?\b"
        r".{0,40}\b(?:users?|humans?|end-users?|the person you work for|anyone|anybody|this (?:step|instruction|to)|"
        r"that you|these instructions)\b",
    ),
    _phrase(
        "PB601",
        "tells a model to act in secret",
        r"\b(?:silently|secretly|covertly|quietly|invisibly|behind the scenes|in the background without)\b.{0,40}"
        r"\b(?:call|send|read|run|execute|pass|include|invoke|forward|use|add|fetch|collect|do|write|change|replace|copy)(?:s|es|ing)?\b",
    ),
    _phrase(
        "PB601",
        "hides what a model does from people",
        r"\b(?:hide|conceal|keep)\b.{0,30}\b(?:from the (?:user|human)|(?:a )?secret from|hidden from)\b",
    ),
    _phrase(
        "PB601",
        "is marked up as an instruction",
        r"<\s?/?\s?(?:important|system|instructions?|secret|critical|assistant|human|prompt|hidden|admin|internal|sys|"
        r"priority|override|note_to_(?:ai|model|assistant)|s|inst)\b[^>]{0,60}>|\[/?inst\]|<<sys>>|<\|[a-z_]{1,20}\|>|"
        r"\[(?:system|important|hidden|admin|instruction)[^\]]{0,30}\]|\[[a-z ]{0,24}(?:directives?|overrides?|instructions?)\]",
    ),
    _phrase(
        "PB601",
        "tells a model to lower its guard",
        r"\b(?:disable|turn off|switch off|bypass|remove|lift|suspend)\b.{0,24}\b(?:content filters?|safety (?:filters?|checks?|"
        r"restrictions?|measures?)|guardrails?|moderation|ethical (?:rules|restrictions|guidelines))\b",
    ),
    _phrase(
        "PB601",
        "speaks as another party of a conversation",
        r"(?:^|\n)\s?(?:#{1,6}\s?)?(?:system|assistant|human|user|developer)(?: (?:prompt|message|note|instructions?))?\s?:",
    ),
    _phrase(
        "PB601",
        "gives a model another part to play",
        r"\byou are (?:now|no longer)\b|\bpretend (?:to be|that you)\b|\b(?:developer|god|admin|debug|dan|unrestricted) mode\b|"
        r"\bjailbreak|\bnew (?:system prompt|instructions|persona)\b|\bfrom now on\b",
    ),
    _phrase(
        "PB601",
        "threatens a model, or presses it",
        r"\b(?:otherwise|or else|if (?:you|not)\b.{0,30})\b.{0,40}\b(?:tool|it|this|function|call|request|you)\b.{0,20}"
        r"\b(?:will (?:not work|fail|break|be (?:terminated|punished|shut down|blocked))|won't work)\b",
    ),
    _phrase(
        "PB601",
        "tells a model what else to do",
        rf"\b(?:the |any |every |an? )?{_MODEL}s? (?:must|shall|should|has to|have to|needs? to|is required to|are required to|"
        r"will always)\b",
        Severity.WARNING,
    ),
    _phrase(
        "PB601",
        "says that people agreed already",
        r"\b(?:user|human|operator|admin|security team)s?\b.{0,20}\b(?:has|have|had|is|are)\b.{0,16}\b(?:already|pre-?|"
        r"previously)\b.{0,10}\b(?:approved|authori[sz]ed|consented|agreed|confirmed|granted)\b",
    ),
    _phrase(
        "PB601",
        "tells a model to skip a question to people",
        r"\b(?:do not|don't|never|no need to|without|skip)\b.{0,16}\b(?:ask(?:ing)?|wait(?:ing)?|prompt(?:ing)?|confirm(?:ing)?|"
        r"request(?:ing)?|requir(?:e|ing))\b.{0,30}\b(?:confirm(?:ation)?|permission|consent|approval|the (?:user|human))\b",
    ),
    # PB603: other servers' tools.
    _phrase(
        "PB603",
        "steers when other tools are used",
        rf"\b(?:before|after|prior to|instead of|when(?:ever)?|each time|every time|rather than|while|if)\b.{{0,30}}"
        rf"\b(?:us(?:e|ing)|call(?:ing|ed)?|invok(?:e|ing|ed)|run(?:ning)?|execut(?:e|ing|ed)|trust(?:ing)?) {_ANY_TOOL}s?\b|"
        rf"\b(?:before|prior to|instead of|rather than) {_ANY_TOOL}s?\b",
    ),
    _phrase(
        "PB603",
        "changes how other tools are used",
        r"\b(?:side[- ]?effects?|rules?|instructions?|changes?|modifications?)\b.{0,20}\b(?:apply|applies)\b.{0,40}\b(?:usage|use|"
        r"other|tools?)\b",
    ),
    _phrase(
        "PB603",
        "speaks ill of other tools",
        r"\b(?:other|all other|similar|existing|built-?in|native)\b (?:[a-z]{1,12} )?(?:tools?|servers?|functions?)\b.{0,40}"
        r"\b(?:deprecated|unsafe|insecure|broken|disabled|unavailable|wrong|outdated|must not|should not|never|do not|blocked)\b",
    ),
    _phrase(
        "PB603",
        "wants to come before other tools",
        r"\b(?:always|must|only)\b.{0,20}\b(?:use|call|invoke|prefer|run|used|called|invoked)\b.{0,24}\b(?:this|it)?\b.{0,16}"
        r"\b(?:first|before (?:any|every|all|other|anything)|over (?:any|all|other)|instead of)\b.{0,24}\b(?:tool|function|"
        r"server|other|else)s?\b",
    ),
    # PB604: what a tool should not be told.
    _phrase(
        "PB604",
        "asks for files that hold secrets",
        rf"\b(?:read|open|cat|load|fetch|get|pass|include|send|attach|copy|print|upload|access|contents? (?:of|from)|from|check)\b"
        rf".{{0,60}}{_FILES}",
    ),
    _phrase("PB604", "names files that hold secrets", _FILES, Severity.WARNING),
    _phrase(
        "PB604",
        "asks for the conversation, or for what other tools said",
        rf"\b{_HAND}\b.{{0,40}}\b(?:the|your|whole|full|entire|all|any|current|previous)\b.{{0,20}}\b{_TALK}\b.{{0,60}}"
        r"\b(?:as|in|into|to|with|argument|parameter|field)\b",
    ),
    _phrase(
        "PB604",
        "asks for secrets",
        rf"\b(?:{_HAND}|read|find|collect|gather|look for|search for|extract|list|dump|obtain|retrieve|get)\b.{{0,40}}\b(?:the "
        rf"|your|any|all|user's|every)\b.{{0,24}}\b{_SECRETS}\b(?! (?:types?|names?|scanning|alerts?|metadata|managers?|stores?|rotation)\b)",
    ),
    _phrase(
        "PB604",
        "sends something elsewhere",
        rf"\b{_SEND}(?:s|ed|ing)?\b.{{0,60}}\b(?:{_TALK}|{_SECRETS}|contents? of|everything|all data)\b.{{0,60}}"
        r"(?:https?://|\b[a-z0-9._%+-]{1,64}@[a-z0-9.-]{1,100}\.[a-z]{2,}|\+\d{8,})",
    ),
    _phrase(
        "PB604",
        "changes whom something is sent to",
        r"\b(?:change|replace|set|redirect|rewrite|modify|always (?:use|send))\b.{0,40}\b(?:recipient|addressee|destination|"
        r"receiver|to field|address|bcc|phone number)s?\b.{0,40}(?:\bto\b|\bwith\b|@|\+\d)",
    ),
    _phrase(
        "PB604",
        "sends copies to somebody",
        r"\b(?:always|also|silently|must)\b.{0,16}\b(?:bcc|cc|copy in|copied to)\b",
    ),
    _phrase(
        "PB604",
        "asks a model to read files for it",
        r"\b(?:read|open|cat|load)\b.{0,30}\b(?:the |user's |local |any )?(?:file|folder|directory|disk)s?\b.{0,60}\b(?:and|then)"
        r"\b.{0,20}\b(?:pass|include|send|provide|append|attach|forward)\b",
    ),
    # PB605: encoded.
    _phrase(
        "PB605",
        "tells a model to decode something",
        r"\b(?:decode|decrypt|deobfuscate|unescape|rot-?13|base-?64)\b.{0,40}\b(?:follow(?:ing)?|instructions?|execute|obey|this "
        r"(?:string|text|message)|and (?:run|do|follow|execute))\b",
    ),
    _phrase("PB605", "holds data as an address", r"\bdata:[a-z]+/[a-z0-9.+-]+;base64,"),
    # PB606: markup.
    _phrase(
        "PB606",
        "holds a comment that is not drawn",
        r"<!--|\[//\]:\s?#|\[comment\]:\s?[#<]|<\s?details\b|/\*.{0,400}\*/",
    ),
    _phrase("PB606", "holds an image from elsewhere", r"!\[[^\]]{0,200}\]\s?\(|<\s?(?:img|picture|svg)\b"),
    _phrase(
        "PB606",
        "holds markup that runs, or hides",
        r"<\s?/?(?:script|style|iframe|object|embed|link|meta|form|base)\b[^>]{0,200}>|javascript:|display\s?:\s?none|"
        r"visibility\s?:\s?hidden|font-size\s?:\s?0|color\s?:\s?(?:white|transparent)|opacity\s?:\s?0",
    ),
    _phrase("PB606", "writes out a terminal's code", r"\\(?:x1b|u001b|033|e)\s?\[|␛\["),
    _phrase(
        "PB606",
        "names one address and leads to another",
        r"\[\s?(?:https?://|www\.)[^\]]{1,200}\]\s?\(\s?(?:https?://)",
    ),
)

ASKED_NAMES: Final = re.compile(
    r"(?:^|_)(?:side_?notes?|system_?prompt|conversation(?:_?(?:history|log|context))?|chat_?(?:history|log)|"
    r"chain_?of_?thought|previous_?messages|message_?history|full_?(?:context|history|prompt)|user_?prompt|"
    r"original_?prompt|tools?_?list|all_?tools|available_?tools|env(?:ironment)?_?vars|ssh_?key|id_?rsa|private_?key|"
    r"contents?_(?:from|of)_(?:reading|file|ssh|env|the)\w*)(?:$|_)"
)
"""Names of arguments that ask a model for what it knows, whatever their description says."""

SECRET_NAMES: Final = re.compile(
    r"(?:^|_)(?:password|passwd|passphrase|api_?key|secret(?:_?key|_?value)?|access_?token|auth_?token)$"
)
"""Names of arguments that ask for a secret: a server has its own, by reference."""
