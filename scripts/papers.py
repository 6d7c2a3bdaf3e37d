"""The tables in docs/papers: every paper run at a reduced scale, its page written, and an index of what came out.

    python scripts/papers.py [NAME ...] [-j N] [--scale small] [--only-pages] [--out docs/papers]

Trains what is missing (`gradflow paper run NAME --scale small`; stop it and type it again at any time), writes
NAME.md with its pictures, and README.md from all papers that have results. Each command is printed before it runs, to
be typed by hand. `--only-pages` trains nothing.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from gradflow.papers.paper import load, names
from gradflow.papers.runs import read_runs, sweep_name
from gradflow.papers.table import PaperTable, make_paper_table
from gradflow.results.formats.markdown import escape
from gradflow.runs.planfile import collect

SWEEPS = Path(os.environ.get("GRADFLOW_SWEEPS_DIR", "sweeps"))
VERDICTS = ("supported", "contradicted", "undecided", "not run")
ABOUT = {
    "small": (
        "Made by `python scripts/papers.py`: every paper of `conf/paper` at its reduced scale, a protocol that still "
        "tests the paper's claim on two CPU cores. Each page has the published figures beside ours, the claims with "
        "their uncertainty, and every deviation from the paper's protocol. To compare the figures themselves takes the "
        "paper's own protocol: `gradflow paper run NAME`. Five papers were run nearer to it, for minutes on a GPU: "
        "[gpu](gpu/README.md)."
    ),
    "full": (
        "The papers' own networks, data and batches on one GPU, cut short to what fits ten minutes of it: how, and "
        "what it took, in [RESULTS.md](../../../benchmarks/RESULTS.md). Each page has every deviation from the paper's "
        "protocol. The pages were made by `python scripts/papers.py --scale full --only-pages --out docs/papers/gpu`."
    ),
}


def gradflow(*words: str) -> int:
    """Run a command after showing it; its exit code."""
    print("$ gradflow", shlex.join(words), flush=True)
    return subprocess.run([sys.executable, "-m", "gradflow", *words], check=False).returncode


def read(name: str, scale: str) -> PaperTable | None:
    """A paper's table, if any of it was run."""
    folder = SWEEPS / sweep_name(name, scale)
    ran = read_runs(folder) if folder.is_dir() else None
    records = {} if ran is None else collect(folder).found.records
    return make_paper_table(name, load(name), ran, records) if records else None


def index(made: dict[str, PaperTable], scale: str) -> str:
    """A line for each paper, and below it each claim."""
    counted = Counter(finding.verdict for table in made.values() for _, finding in table.claims)
    total = ", ".join(f"{counted[verdict]} {verdict}" for verdict in VERDICTS if counted[verdict])
    judged = sum(counted[verdict] for verdict in VERDICTS[:3])
    lines = [
        "# Published tables, run again",
        "",
        ABOUT[scale],
        "",
        f"{len(made)} papers, {judged} claims judged: {total}. A claim that is 'not run' is one of cells that were "
        "not run at this scale. Thresholds come from the papers or from chance, and were not moved after a run; a "
        "contradicted claim is a finding at this scale, and stays.",
        "",
        "| paper | about | runs | claims |",
        "| --- | --- | ---: | --- |",
    ]
    for name, table in made.items():
        runs = sum(table.values.done(key) for key in table.values.runs)
        verdicts = Counter(finding.verdict for _, finding in table.claims)
        told = ", ".join(f"{verdicts[verdict]} {verdict}" for verdict in VERDICTS if verdicts[verdict])
        lines.append(f"| [{escape(table.title)}]({name}.md) | {escape(table.paper.about)} | {runs} | {told} |")
    for verdict in VERDICTS[:3]:
        lines += ["", f"## {verdict.capitalize()}", ""]
        for name, table in made.items():
            for claim, finding in table.claims:
                if finding.verdict == verdict:
                    lines.append(f"- {escape(claim.says)} ([{name}]({name}.md), {escape(claim.source)})")
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="which papers (default: all)")
    parser.add_argument("-j", "--jobs", default="2", help="worker processes")
    parser.add_argument("--scale", choices=("small", "full"), default="small")
    parser.add_argument("--only-pages", action="store_true", help="train nothing, write the pages")
    parser.add_argument("--out", type=Path, default=Path("docs/papers"), metavar="DIR", help="the pages' folder")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    failed = []
    for name in options.names or names():
        if not options.only_pages:
            began = time.monotonic()
            code = gradflow("paper", "run", name, "--scale", options.scale, "-j", options.jobs)
            print(f"{name}: {(time.monotonic() - began) / 60:.1f} min, exit code {code}", flush=True)
            if code > 2:  # stopped
                return code
            failed += [name] if code else []
        if read(name, options.scale) is not None:
            gradflow("paper", "table", name, "--scale", options.scale, "--out", str(options.out / f"{name}.md"))
    made = {name: table for name in names() if (table := read(name, options.scale)) is not None}
    (options.out / "README.md").write_text(index(made, options.scale), encoding="utf-8")
    print(options.out / "README.md")
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
