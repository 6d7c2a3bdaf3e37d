"""The README's gallery: two sweeps of real runs, and everything that gradflow shows of them.

    python scripts/gallery.py [-j N]        or: make gallery

Trains the named sweeps 'gallery' and 'trainability' (282 short runs on MNIST and the adding problem; what is trained
already is not trained again) and writes into docs/gallery: figures, tables in every format, and pictures of the page as
Chromium shows it. Each command is printed before it runs, to be typed by hand.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote, urlencode

OUT = Path("docs/gallery")
SWEEPS = Path(os.environ.get("GRADFLOW_SWEEPS_DIR", "sweeps"))
GALLERY, TRAINABILITY = SWEEPS / "gallery", SWEEPS / "trainability"
MNIST, ADDING = ("--where", "task == 'mnist'"), ("--where", "task == 'adding'")
FIGURES = (  # what is drawn of which sweep, and what to call it in the gallery
    (GALLERY, ["metric", *MNIST, "--columns", "2"], "accuracy_by_depth"),
    (GALLERY, ["effects", *MNIST], "effects"),
    (GALLERY, ["gradient_by_block", *MNIST, "--columns", "2"], "gradient_by_block"),
    (GALLERY, ["heatmap", *MNIST, "--columns", "2"], "heatmap"),
    (GALLERY, ["curves", *ADDING, "--columns", "2"], "learning_curves"),
    (GALLERY, ["time_gradient", *ADDING, "--columns", "2"], "gradient_through_time"),
    (TRAINABILITY, ["trainability"], "trainability"),
    (TRAINABILITY, ["phase"], "phase_diagram"),
)
TABLE = ["--where", "task == 'mnist'", "--rows", "depth,activation,init", "--cols", "norm,skip", "--value", "metric"]
KINDS = ("pairs", "aggregate", "ranks", "profiles")
FORMATS = ("md", "csv", "tex", "html", "typ")
SCREENS = (  # name, what follows the page's address, width and height in pixels, scheme
    ("page", None, 1280, 1400, "light"),  # curves of the runs chosen below
    ("page_factors", "#tab=factors", 1280, 860, "light"),
    ("page_compare", "#tab=compare", 1280, 860, "light"),
    ("page_run", None, 1280, 1400, "dark"),  # of a run, chosen below
)
RATIO = "gradient ratio, first ÷ last block"
RECIPES = ("sigmoid none none", "sigmoid batch none", "tanh none none", "relu none none", "relu batch residual")


def gradflow(*words: str, into: Path | None = None) -> None:
    """Run a command after showing it; what it prints goes to the terminal or into a file."""
    print("$ gradflow", shlex.join(words), *(["> " + str(into)] if into else []), flush=True)
    command = [sys.executable, "-m", "gradflow", *words]
    if into is None:
        subprocess.run(command, check=True)
    else:
        with into.open("w", encoding="utf-8") as file:
            subprocess.run(command, check=True, stdout=file)


def figures() -> None:
    for folder, words, name in FIGURES:
        gradflow("plot", str(folder), *words, "--format", "png,pdf", "--out", str(OUT / "drawn"))
        for form in ("png", "pdf"):
            os.replace(OUT / "drawn" / f"{words[0]}.{form}", OUT / f"{name}.{form}")
    shutil.rmtree(OUT / "drawn")


def tables() -> None:
    for form in FORMATS:
        gradflow("table", str(GALLERY), *TABLE, "--out", str(OUT / f"table.{form}"))
    gradflow("table", str(GALLERY), *TABLE, into=OUT / "table.txt")
    for kind in KINDS:
        words = ["--kind", kind, "--where", "task == 'mnist'", "--by", "norm,skip"]
        gradflow("table", str(GALLERY), *words, "--out", str(OUT / f"{kind}.md"))


def page() -> None:
    """The page of the sweep, and how it looks: Chromium takes the pictures."""
    gradflow("report", str(GALLERY))
    from playwright.sync_api import sync_playwright

    from gradflow.runs.planfile import collect

    deep = {
        "{activation} {norm} {skip}".format(**run): run_id
        for run_id, run in collect(GALLERY).planned.items()
        if (run["task"], run["depth"], run["seed"], run["init"]) == ("mnist", 40, 0, "he_normal")
    }
    lines = ",".join(deep[recipe] for recipe in RECIPES)
    curves = {"tab": "runs", "q": "depth=40 seed=0 he_normal", "lines": lines, "curve": RATIO, "log": "yes"}
    chosen = {"page": urlencode(curves, quote_via=quote), "page_run": f"tab=runs&run={deep[RECIPES[0]]}"}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for name, place, width, height, scheme in SCREENS:
            opened = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
            opened.goto((GALLERY / "report.html").resolve().as_uri() + (place or f"#{chosen[name]}"))
            opened.wait_for_timeout(4000)
            opened.screenshot(path=OUT / f"{name}.png")
            opened.close()
        browser.close()


def main() -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    for name in ("gallery", "trainability"):
        gradflow("sweep", f"+sweep={name}", f"sweep.name={name}", *sys.argv[1:])
    tables()
    figures()
    page()
    runs = SWEEPS.parent / "runs" if "GRADFLOW_RUNS_DIR" not in os.environ else Path(os.environ["GRADFLOW_RUNS_DIR"])
    offline = len(list(runs.glob("*/wandb/offline-run-*")))
    print(f"{OUT}: figures, tables and the page's pictures; {offline} W&B offline folders in {runs}/*/wandb")


if __name__ == "__main__":
    main()
