"""`--kind profiles`: performance profiles, the share of runs that score more than τ."""

from __future__ import annotations

from gradflow.results.kinds.asked import Asked, alone, arranged, look_up, notes_of, nothing, scale
from gradflow.results.statistics.normalise import normalise
from gradflow.results.statistics.resample import bootstrap_each
from gradflow.results.statistics.summary import share_above
from gradflow.results.table import Head, Line, Table, Value
from gradflow.runs.planfile import Collection

TAUS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)


def make_profiles(collection: Collection, asked: Asked) -> Table:
    """A row for each τ, a column for each technique (Agarwal et al. 2021, section 4.2), with pointwise bootstrap bands.

    Raises:
        ConfigError: as `look_up` and `normalise`; and where techniques share no setting.
    """
    scored = look_up(collection, asked)
    normalised = normalise(scored.scores, asked.references)
    by_id = {score.run_id: score for score in normalised.scores}
    lines, parts, left = [], [], []
    names: dict[str, None] = {}
    for part, runs in scored.parts.items():
        made, shared = arranged([by_id[score.run_id] for score in runs], scored.by)
        if not shared or len(made.names) < 2:
            left.append(part)
            continue
        parts.append((made, shared))
        names |= dict.fromkeys(made.names)
        strata = {name: made.strata(name, shared) for name in made.names}
        shares = {name: bootstrap_each(strata[name], [share_above(tau) for tau in TAUS]) for name in made.names}
        for place, tau in enumerate(TAUS):
            values: dict[str, Value] = {name: shares[name][place] for name in made.names}
            lines.append(Line({**scored.labels(part), "τ": tau}, values))
    if not lines:
        raise nothing(scored)
    lines = [Line(line.labels, {name: line.values.get(name) for name in names}) for line in lines]
    notes = [
        "share of runs with a normalised score above τ, mean over settings [pointwise 95 % percentile interval of a "
        "bootstrap over seeds, within each setting]",
        *scale(normalised),
        *alone(parts),
        *notes_of(scored, parts, left, "chance, which is 0"),
    ]
    above = () if len(scored.by) > 1 else (scored.technique,)  # names of several choices say which they are
    heads = {name: Head(name, above, name) for name in names}
    title = f"{collection.name}: performance profiles by {scored.technique}"
    return Table(title, [*scored.rows, "τ"], list(names), "share", lines, notes, heads)
