"""What W&B's summary says of a run, flat, as `gradflow.runs.wandb_keys` names it."""

from __future__ import annotations

import json
from typing import Any

from gradflow.diagnosis.verdicts import VERDICTS
from gradflow.runs import wandb_keys as keys
from gradflow.runs.config import Config


def summary(
    result: dict[str, Any], config: Config, steps_per_epoch: int | None, made: dict[str, Any]
) -> dict[str, Any]:
    """What a run showed and where; and the result itself, as a line, with the config but for this machine's folders.

    Args:
        result: as it stands in `result.json`.
        steps_per_epoch: from which an import has the epochs again; None where there is one.
        made: what `environment.json` holds.
    """
    flat = {keys.STATE: result["state"], keys.VERDICT: result["verdict"], keys.STEPS: result["steps"]}
    flat |= {keys.verdict_is(word): int(word == result["verdict"]) for word in VERDICTS}
    flat |= {keys.DIVERGED_AT: result["diverged_at"], keys.CHANCE: result["chance"]}
    flat |= {keys.final(name): value for name, value in result["metrics"].items()}
    flat |= {f"gradient/{name}": value for name, value in (result["gradient"] or {}).items()}
    flat |= {f"cost/{name}": value for name, value in result["cost"].items() if name != "clock"}
    for sign in reversed(result["signs"]):  # of several of one check the first, which is the strongest, stays
        flat |= {keys.sign(sign["name"], part): sign[part] for part in ("value", "threshold", "where")}
    if result["solved"] is not None:
        flat[keys.SOLVED_AT] = result["solved"]["step"]
    last = (result["time"] or {}).get("last", {})
    flat |= {keys.plain(f"time/{name}"): value for name, value in last.items() if name != "step"}
    flat["no_gradient"] = result["no_gradient"]
    facts = {name: made.get(name) for name in ("python", "platform", "cpu", "threads")}
    facts |= {**made.get("packages", {}), "gpu": ", ".join(made.get("gpus", [])) or None}
    facts |= {f"git_{name}": value for name, value in (made.get("code") or {}).items()}
    flat |= {keys.environment(name.replace("-", "_")): value for name, value in facts.items()}
    kept = {"result": result, "config": config.model_dump(exclude={"paths"}), "steps_per_epoch": steps_per_epoch}
    flat[keys.RECORD] = json.dumps(kept, separators=(",", ":"))
    return {name: value for name, value in flat.items() if value is not None}
