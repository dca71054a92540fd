"""The check of a release: the same code for `pegboard check` and for the hub, pure and without input or output.

    subject = Subject(declaration, namespace="prod", files=files, packages=facts, others=others, allowed=allowed)
    report = check(subject)

A project's files are read as text and never run. What the check cannot see stands on the reference page.
"""

from pegboard.core.check.model import (
    Advisory,
    Allowed,
    LockedPackage,
    OtherServer,
    PackageFacts,
    Report,
    Subject,
    ToolTokens,
)
from pegboard.core.check.rules import RULES, SUBJECTS, Rule
from pegboard.core.check.run import check, check_files
from pegboard.core.check.sarif import sarif

__all__ = [
    "RULES",
    "SUBJECTS",
    "Advisory",
    "Allowed",
    "LockedPackage",
    "OtherServer",
    "PackageFacts",
    "Report",
    "Rule",
    "Subject",
    "ToolTokens",
    "check",
    "check_files",
    "sarif",
]
