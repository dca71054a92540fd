"""How long an author waits: from `pegboard new` to a governed call by another person, step by step.

    .venv/bin/python bench/ten_minutes.py [--save] [--url http://localhost:8400]

It plays fay, of finance in the demo company, who has a CSV file and has seen no MCP server before. She makes a
project, runs its tests, looks at it behind a local edge, adds a tool and a policy, and submits it; ana of Ads
engineering calls it, and is refused what is for finance.

What is counted is what she waits for. Not counted: that she reads, thinks and types (the lines that she types are
told), that a teammate's review waits in `prod`, that the demo is installed and started, which is done once for all.
Packages come from the caches of this machine; a slow package index adds its downloads. Without `--url` an instance of
its own is started.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from bench import keeping
from pegboard.cli.author.uv import find_uv
from tests.ports import free_port
from tests.system.instance import running

LIMIT_S = 120.0
BUDGET_S = 600.0

DATA = "day,office,amount\n2026-03-02,berlin,412.50\n2026-03-02,lisbon,230.00\n2026-03-03,berlin,571.25\n"
TOOL = '''

@server.tool(title="Best day", annotations=READS)
@authorize_tool(policy="finance")
@saves(minutes=10)
def sales_best_day() -> data.Rows:
    """Give the day with the highest sales. Use it for a first look."""
    return data.query("SELECT day, sum(amount) AS total FROM sales GROUP BY day ORDER BY total DESC LIMIT 1")
'''
POLICY = 'permit (principal in Group::"finance", action in [Action::"list", Action::"call"], resource);\n'


class Author:
    """Somebody at a terminal, and a clock.

    Attributes:
        rows: what they did, and how long it took.
        commands: that they typed.
    """

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.folder = folder
        self.rows: list[dict[str, object]] = []
        self.commands = 0
        programs = (Path(sys.executable).parent, find_uv().parent)
        path = os.pathsep.join([*map(str, programs), os.environ["PATH"]])
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PEGBOARD_")}
        self.environment = {**kept, "PATH": path, "PEGBOARD_PUBLIC_URL": url, "UV_PYTHON_DOWNLOADS": "never"}
        self.environment.pop("VIRTUAL_ENV", None)

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        """Time one step and tell it."""
        began = time.monotonic()
        yield
        seconds = round(time.monotonic() - began, 1)
        self.rows.append({"step": what, "seconds": seconds})
        print(f"{what:58} {seconds:6.1f} s", flush=True)

    def run(self, *command: str, status: int = 0, folder: Path | None = None) -> str:
        """What a command prints.

        Raises:
            RuntimeError: it ends with another status.
        """
        self.commands += 1
        done = subprocess.run(
            command,
            cwd=folder or self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        if done.returncode != status:
            raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout + done.stderr

    def until(self, command: Sequence[str], holds: Callable[[str], bool], environment: dict[str, str]) -> None:
        """Try a command until what it prints is as it should be."""
        self.commands += 1
        ends = time.monotonic() + LIMIT_S
        while time.monotonic() < ends:
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
            if done.returncode == 0 and holds(done.stdout):
                return
            time.sleep(0.2)
        raise RuntimeError(f"{' '.join(command)}: {done.stdout}{done.stderr}")


def main() -> None:
    """Print a row for each step, and keep them if asked to."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--save", action="store_true", help="keep the results in bench/results/ten_minutes.json")
    arguments.add_argument("--url", help="of an instance with the demo directory; default: one of its own")
    given = arguments.parse_args()
    before = keeping.load_average()
    with tempfile.TemporaryDirectory(prefix="pegboard-author-") as folder:
        if given.url:
            author = play(given.url, Path(folder))
        else:
            with running() as instance:
                author = play(instance.public_url, Path(folder))
    total = round(sum(float(str(row["seconds"])) for row in author.rows), 1)
    typed = {"commands": author.commands, "lines": sum(1 for row in f"{TOOL}{POLICY}".splitlines() if row)}
    print(f"{'all that she waits for':58} {total:6.1f} s of the {BUDGET_S:.0f} s that it may take")
    print(f"Not counted: reading, thinking, and typing {typed['commands']} commands and {typed['lines']} lines.")
    if given.save:
        rows = [*author.rows, {"step": "all", "seconds": total}]
        print(keeping.save("ten_minutes", [before, keeping.load_average()], rows=rows, typed=typed))


def play(url: str, folder: Path) -> Author:
    """All of it, in order."""
    author = Author(url, folder)
    project = folder / "sales"
    (folder / "sales.csv").write_text(DATA, encoding="utf-8")
    with author.step("pegboard new: a project over her CSV file, locked"):
        about = ("--owner", "finance", "--group", "finance", "--group", "ads-eng", "-d", "Sales by day and office.")
        author.run("pegboard", "new", "sales", "--data", "sales.csv", *about)
    with author.step("uv run pytest: its environment, and its tests"):
        author.run("uv", "run", "--frozen", "pytest", "-q", folder=project)
    with author.step("uv run pegboard check"):
        author.run("uv", "run", "--frozen", "pegboard", "check", folder=project)
    _try(author, project)
    with author.step("pegboard submit: checked, built, live in dev"):
        told = author.run("pegboard", "submit", "--as", "fay", "-m", "sales by day", folder=project)
    print("\n".join(f"    {row}" for row in told.splitlines() if row.startswith("[")))
    with author.step("ana of Ads engineering calls it, governed at both layers"):
        author.run("pegboard", "call", "dev/sales", "sales_query", "--as", "ana", "--arg", "sql=SELECT 1 AS one")
    with author.step("and is refused the tool that is for finance alone"):
        author.run("pegboard", "call", "dev/sales", "sales_best_day", "--as", "ana", status=3)
    return author


def _try(author: Author, project: Path) -> None:
    """Look at it behind a local edge, and save a change."""
    port = free_port()
    author.commands += 1  # pegboard dev
    here = {**author.environment, "PEGBOARD_PUBLIC_URL": f"http://localhost:{port}"}
    with (author.folder / "dev.log").open("wb") as log:
        command = ["pegboard", "dev", "--port", str(port), "--as", "fay"]
        running_dev = subprocess.Popen(command, cwd=project, env=author.environment, stdout=log, stderr=log)
    try:
        query = [
            "pegboard",
            "call",
            "dev/sales",
            "sales_query",
            "--as",
            "fay",
            "--arg",
            "sql=SELECT 1 AS one",
            "--json",
        ]
        with author.step("pegboard dev: until the first governed call is answered"):
            author.until(query, lambda told: "one" in told, here)
        with author.step("a tool and a policy are saved: until that tool answers"):
            (project / "policies" / "finance.cedar").write_text(POLICY, encoding="utf-8")
            source = project / "src" / "sales_server" / "server.py"
            source.write_text(source.read_text(encoding="utf-8") + TOOL, encoding="utf-8")
            best = ["pegboard", "call", "dev/sales", "sales_best_day", "--as", "fay", "--json"]
            author.until(best, lambda told: "2026-03-02" in told, here)
    finally:
        running_dev.send_signal(signal.SIGINT)
        running_dev.wait(60)


if __name__ == "__main__":
    main()
