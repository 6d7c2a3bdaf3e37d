"""W&B dashboards as code: what to show of which runs (pure data), and how it gets to W&B.

`subject → workspace, report → models → server`: a sweep's labels say what there is to show; `workspace` and `report`
say in our own words how (`panels`), without wandb; `models` turns that into the objects of wandb-workspaces, whose own
JSON is what a dry run writes; `server` puts it in the place of what it put there before.
"""
