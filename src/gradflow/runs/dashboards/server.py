"""Putting views at W&B, each in the place of the one of its name.

wandb-workspaces makes a new view of every `save` that is not given the id of an old one, and finds none by its name; so
they are looked for here. What is sent, and by which client, is the library's own.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import wandb
from wandb.errors import AuthenticationError, UsageError
from wandb_workspaces._graphql import execute_graphql, get_app_url
from wandb_workspaces.reports.v2 import gql

from gradflow.runs.dashboards.models import REPORT, View

# Enough to get over a hiccup, and an end within a minute where nobody answers; a person's own environment goes first.
# In whole seconds: W&B's client takes a fraction for its own default.
PATIENCE = {
    "x_graphql_retry_max": 3,
    "x_graphql_retry_wait_min_seconds": 1.0,
    "x_graphql_retry_wait_max_seconds": 5.0,
    "x_graphql_timeout_seconds": 10.0,
}
ENVIRONMENT = {name: f"WANDB_{name.upper()}" for name in PATIENCE} | {"x_graphql_timeout_seconds": "WANDB_HTTP_TIMEOUT"}
LONGEST = 75  # seconds for one question with all that is tried again: what `PATIENCE` comes to, and some
MOST = 300  # characters of what a server says
LATE = ("Timeout exceeded", "deadline exceeded", "did not respond in time")  # how the client says it
VIEWS = """
    query Views($entity: String!, $project: String!, $type: String!, $after: String) {
        project(name: $project, entityName: $entity) {
            allViews(viewType: $type, first: 100, after: $after) {
                edges { node { id name displayName } }
                pageInfo { endCursor hasNextPage }
            }
        }
    }
"""


class NoAccount(Exception):
    """There is no key for this server."""


class Refused(Exception):
    """W&B did not do what it was asked for; one line says why."""


@dataclass(frozen=True)
class Put:
    """A view that is now at W&B.

    Attributes:
        made: whether there was none of its name before.
    """

    title: str
    url: str
    made: bool


class Server:
    """W&B, asked as whoever is logged in.

    Args:
        entity: the account or team; None: the one that is the account's default.
        project: of it.

    Attributes:
        project_id: W&B's number for the project.

    Raises:
        NoAccount: if there is no key.
        Refused: if the key is not accepted, nobody answers, or there is no such project.
    """

    def __init__(self, entity: str | None, project: str) -> None:
        settings: dict[str, Any] = {n: value for n, value in PATIENCE.items() if ENVIRONMENT[n] not in os.environ}
        wandb.setup(wandb.Settings(silent=True, **settings))  # silent: it does not ask for a key either
        try:
            self._api = wandb.Api(timeout=LONGEST)
            found = entity or self._api.default_entity
        except UsageError:
            raise NoAccount from None
        except Exception as error:  # noqa: BLE001 - W&B's client has no common class for what goes wrong
            raise Refused(_said(error, os.environ.get("WANDB_API_KEY"))) from None
        if found is None:
            raise Refused("the account has no default entity; name one with --entity")
        self.entity, self.project = str(found), project
        answer = self._ask(gql.projectInternalId, {"entityName": self.entity, "projectName": project})
        if answer.get("project") is None:
            raise Refused(f"no project {self.entity}/{project}, or no access to it; runs that are uploaded make it")
        self.project_id = str(answer["project"]["internalId"])

    def put(self, view: View) -> Put:
        """Make a view, or put it in the place of the one of its name.

        Raises:
            Refused: if it is not taken.
        """
        known = self._find(view)
        name = view.name if known is None else str(known["name"])
        sent = {
            "id": None if known is None else known["id"],
            "entityName": self.entity,
            "projectName": self.project,
            "type": view.type,
            "name": name,
            "displayName": view.title,
            "description": view.description,
            "spec": view.spec,
        }
        answer = self._ask(gql.upsert_view, sent)
        return Put(view.title, self._url(view, name, str(answer["upsertView"]["view"]["id"])), known is None)

    def _find(self, view: View) -> dict[str, Any] | None:
        """The view of this name: ours if there is one, else one that a person gave the same title."""
        found = [
            node for node in self._views(view.type) if view.name == node["name"] or view.title == node["displayName"]
        ]
        return min(found, key=lambda node: node["name"] != view.name, default=None)

    def _views(self, type_: str) -> Iterator[dict[str, Any]]:
        after = None
        while True:
            where = {"entity": self.entity, "project": self.project, "type": type_, "after": after}
            page = (self._ask(VIEWS, where).get("project") or {}).get("allViews") or {"edges": [], "pageInfo": {}}
            yield from (edge["node"] for edge in page["edges"])
            if not page["pageInfo"].get("hasNextPage"):
                return
            after = page["pageInfo"]["endCursor"]

    def _url(self, view: View, name: str, id_: str) -> str:
        base = f"{get_app_url(self._api)}{quote(self.entity)}/{quote(self.project)}"
        if view.type == REPORT:
            return f"{base}/reports/{quote(view.title.replace(' ', '-'))}--{id_.rstrip('=')}"
        return f"{base}?nw={name.removeprefix('nw-').removesuffix('-v')}"

    def _ask(self, query: str, values: dict[str, Any]) -> dict[str, Any]:
        try:
            return execute_graphql(self._api, query, values)
        except Exception as error:  # noqa: BLE001 - as above
            raise Refused(_said(error, self._api.api_key)) from None


def _said(error: Exception, key: str | None) -> str:
    """What went wrong, in one line without the key."""
    cause = error.__cause__ if isinstance(error, AuthenticationError) and error.__cause__ else error
    response = getattr(cause, "response", None)
    status = getattr(response, "http_status", 0)
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    said = lines[-1].removeprefix("while retrying: ") if lines else type(cause).__name__
    said = (said.replace(key, "***") if key else said)[:MOST]
    if any(words in said for words in LATE):
        return f"no answer in time ({said})"
    if status == 401:
        return f"the API key is not accepted ({said}); run 'wandb login --relogin'"
    return f"{said} (HTTP {status})" if status else said
