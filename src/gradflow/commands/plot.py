"""`gradflow plot`: figures of a paper's size."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradflow import usage
from gradflow.commands.selection import HELP as HELP_WHERE
from gradflow.commands.selection import select
from gradflow.errors import ConfigError, choose_from
from gradflow.usage import OK

if TYPE_CHECKING:
    import numpy as np

    from gradflow.results.pictures.kinds import Asked
    from gradflow.runs.config import Config
    from gradflow.runs.planfile import Collection

SUMMARY = "figures of a paper's size, as PDF, SVG or PNG"
HELP = """Figures of a paper's size: one column (3.25 inches) or two (6.75), letters of 7 to 8 points, fonts embedded
(letters of an SVG are paths), vectors but for the cells of maps. Titles are left to the paper's captions. The same
records give the same files.

  gradflow plot sweeps/NAME                               all that say something, in DIR/figures
  gradflow plot sweeps/NAME metric --by activation --columns 2 --format pdf,svg
  gradflow plot sweeps/NAME gradient_by_block --out fig2.pdf
  gradflow plot sweeps/NAME heatmap curves --where "depth == 40 and norm == 'none'"

kinds:
  metric             the metric by depth, or another choice (--x), a line per technique (--by), 95 % intervals
  effects            what changed the most: paired differences of every level of every factor
  profiles           performance profiles: the share of runs that score more than τ
  ranks              mean ranks of the techniques, and which of them the settings tell apart
  curves             learning curves
  gradient_by_block  the gradient in every block, at the start and at the end, with what theory predicts
  time_gradient      the gradient at every step of a sequence
  heatmap            the gradient by block and training step
  trainability       the metric by depth and σ_w², with the depth 6 ξ_c of theory
  phase              order and chaos, with the runs
  decay              how fast the past fades, by spectral radius
"""
WIDTHS = ("1", "2")
FORMATS = ("pdf", "svg", "png")
DPI = 300  # of PNG files, and of the cells of heat maps in the others
FOR = {"value": "--value", "x": "--x", "by": "--by"}


def arguments(command: argparse.ArgumentParser) -> None:
    usage.folder(command)
    command.add_argument("kinds", nargs="*", metavar="KIND", help="what to draw (default: all that say something)")
    command.add_argument("--format", metavar="A,B", help="pdf, svg, png (default: that of --out, or pdf)")
    command.add_argument("--columns", choices=WIDTHS, default="1", help="width of the figure (default: 1)")
    place = "a folder, or of one KIND a file, e.g. fig2.pdf (default: DIR/figures)"
    command.add_argument("--out", type=Path, metavar="PATH", help=place)
    command.add_argument("--value", default="metric", help="a figure of a result, e.g. val/loss")
    command.add_argument("--x", metavar="CHOICE", help="of metric: the horizontal axis, e.g. width")
    command.add_argument("--by", metavar="CHOICE", help="what tells lines apart, e.g. activation")
    command.add_argument("--where", metavar="CONDITION", help=HELP_WHERE)
    command.add_argument("--title", default="", help="above the panels")


def run(options: argparse.Namespace, typed: list[str]) -> int:
    """Draw, write, and name the files."""
    from gradflow.results.pictures.kinds import KINDS, Asked
    from gradflow.runs.planfile import collect

    file = _file(options)
    formats = _words(options.format or (file.suffix[1:] if file else "pdf"))
    _check(options, formats, tuple(KINDS))
    collection = collect(options.folder)
    for problem in collection.found.problems:
        print(f"gradflow: {problem}", file=sys.stderr)
    collection = select(collection, options.where)
    _check_value(collection, options.value)
    theory = Theory(collection)
    asked = Asked(options.value, options.x, options.by, theory.trainable_depths, theory.diagram)
    kinds = list(dict.fromkeys(options.kinds)) or list(KINDS)
    _write(collection, kinds, asked, options, formats)
    return OK


def _write(
    collection: Collection, kinds: list[str], asked: Asked, options: argparse.Namespace, formats: list[str]
) -> None:
    """One after another, so that a picture that says nothing keeps none of the others back."""
    import gradflow
    from gradflow.results.pictures import style
    from gradflow.results.pictures.kinds import draw
    from gradflow.results.pictures.nothing import SaysNothing
    from gradflow.results.pictures.sheet import paper

    file = _file(options)
    out = file.parent if file else options.out or options.folder / "figures"
    sheet = paper(int(options.columns), options.title)
    reasons = []
    for kind in kinds:
        try:
            figure = draw(kind, collection, sheet, asked)
        except SaysNothing as nothing:
            reasons.append(f"{kind}: nothing to draw of {options.folder}: {nothing}")
            continue
        out.mkdir(parents=True, exist_ok=True)
        mark = f"gradflow {gradflow.__version__}: {collection.name}"
        for written in style.save(figure, out / (file.stem if file else kind), mark, formats, sheet.words, DPI):
            print(written)
        for note in figure.notes:
            print(f"gradflow: {kind}: shows {note} (--where chooses others)", file=sys.stderr)
    if options.kinds and reasons:
        raise ConfigError(*reasons)
    if len(reasons) == len(kinds):
        raise ConfigError(f"{options.folder}: no picture says anything of these runs; name a KIND to be told why")


def _file(options: argparse.Namespace) -> Path | None:
    """What `--out` names, if that is a file and no folder."""
    out: Path | None = options.out
    return out if out is not None and out.suffix[1:] in FORMATS and not out.is_dir() else None


class Theory:
    """What theory says of the activation and the initialisation of single runs."""

    def __init__(self, collection: Collection) -> None:
        self._collection = collection
        self._configs: dict[str, dict[str, Any]] | None = None

    def trainable_depths(self, run_id: str, sigma_w2: list[float]) -> np.ndarray | None:
        """6 ξ_c for each σ_w²; None where theory does not apply."""
        from gradflow.runs.trainable import trainable_depths

        found: np.ndarray | None = self._of(run_id, lambda config: trainable_depths(config, sigma_w2))
        return found

    def diagram(self, run_id: str) -> dict[str, Any] | None:
        """Order and chaos for its activation; None where theory does not apply."""
        from gradflow.runs.phase_diagram import phase_diagram

        found: dict[str, Any] | None = self._of(run_id, phase_diagram)
        return found

    def _of(self, run_id: str, say: Callable[[Config], Any]) -> Any:
        config = self._config(run_id)
        if config is None:
            return None
        try:
            return say(config)
        except (ConfigError, ValueError):
            return None

    def _config(self, run_id: str) -> Config | None:
        """Today's defaults with the run's activation and init: of another version's config no more is asked."""
        from gradflow.runs.compose import composer

        parts = self._parts(run_id)
        if parts is None:
            return None
        with composer() as compose:
            return compose.config([]).model_copy(update=parts)

    def _parts(self, run_id: str) -> dict[str, Any] | None:
        import yaml

        from gradflow.runs.planfile import read_plan

        if self._configs is None:
            plan = read_plan(self._collection.folder)
            self._configs = {} if plan is None else {run.run_id: run.config for run in plan.runs}
        values = self._configs.get(run_id)
        if values is None:
            file = self._collection.found.records[run_id].path / "config.yaml"
            try:
                values = yaml.safe_load(file.read_text(encoding="utf-8"))
            except (OSError, ValueError, yaml.YAMLError):
                return None
        names = ("activation", "init")
        return {name: values[name] for name in names} if values and all(values.get(name) for name in names) else None


def _check(options: argparse.Namespace, formats: list[str], known: tuple[str, ...]) -> None:
    from gradflow.results.pictures.kinds import KINDS

    faults = [
        f"{kind}: unknown kind of picture; {choose_from(kind, known)}" for kind in options.kinds if kind not in known
    ]
    faults += [f"--format {each}: unknown; {choose_from(each, FORMATS)}" for each in formats if each not in FORMATS]
    if file := _file(options):
        if len(set(options.kinds)) != 1:
            faults.append(f"--out {file}: is one file; name one KIND, or a folder")
        if formats != [file.suffix[1:]]:
            faults.append(f"--out {file}: says {file.suffix[1:]}, but --format {options.format}")
    for name, option in FOR.items():
        takes = [kind for kind, taken in KINDS.items() if name in taken]
        given = getattr(options, name) not in (None, "metric")
        if given and options.kinds and not set(options.kinds) & set(takes):
            faults.append(f"{option}: none of {', '.join(options.kinds)} has it; those that do: {', '.join(takes)}")
    if faults:
        raise ConfigError(*faults)


def _check_value(collection: Collection, value: str) -> None:
    from gradflow.results.statistics.runs import figures

    if value == "metric":
        return
    known = {name for record in collection.found.records.values() if record.result for name in figures(record.result)}
    if value not in known:
        raise ConfigError(f"--value {value}: no run has this figure; {choose_from(value, {'metric', *known})}")


def _words(text: str) -> list[str]:
    return list(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))
