"""Who may do what: one rule per page, per action and per address of the server. What has no rule is refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from workbench.review.people import ROLES

ALL_ROLES: Final = frozenset(ROLES)
ANYBODY_SIGNED_IN: Final[frozenset[str]] = frozenset({"*"})
"""The rule of what shows nothing of a patient: a login is enough, a role is not needed."""

PAGES: Final[dict[str, frozenset[str]]] = {
    "worklist": frozenset({"reader", "adjudicator", "auditor"}),
    "exam": frozenset({"reader", "adjudicator", "auditor"}),
    "overview": ALL_ROLES,
    "adjudication": frozenset({"adjudicator", "auditor"}),
    "readers": frozenset({"adjudicator", "admin", "auditor"}),
    "people": frozenset({"admin"}),
    "account": ANYBODY_SIGNED_IN,
}
"""The file name of a page without its ending → who may open it. An administrator alone sees no patient."""

TEAM_PAGES: Final = frozenset({"people", "account"})
"""Pages that make no sense where one person works on one machine; they do not exist there."""

ACTIONS: Final[dict[str, frozenset[str]]] = {
    "read": frozenset({"reader", "adjudicator"}),
    "adjudicate": frozenset({"adjudicator"}),
    "assign": frozenset({"adjudicator", "admin"}),
    "share_queue": frozenset({"adjudicator", "admin"}),
    "see_readers": frozenset({"adjudicator", "admin", "auditor"}),
    "see_identifiers": frozenset({"reader", "adjudicator"}),
    "see_trail": frozenset({"admin", "auditor"}),
    "export": frozenset({"admin", "auditor"}),
    "erase": frozenset({"admin"}),
    "manage_people": frozenset({"admin"}),
}
"""What somebody does on a page → who may. An auditor sees everything and changes nothing."""

RouteRule = Literal["open", "off", "unused", "holder", "login"]

ROUTES: Final[dict[str, RouteRule]] = {
    "": "open",
    "/_stcore/health": "open",
    "/_stcore/script-health-check": "off",
    "/_stcore/metrics": "open",
    "/_stcore/host-config": "open",
    "/_stcore/bidi-components/{path:path}": "open",
    "/component/{path:path}": "open",
    "/_stcore/stream": "holder",
    "/media/{file_id:path}": "unused",
    "/_stcore/upload_file/{session_id}/{file_id}": "unused",
    "/app/static/{path:path}": "off",
    "/_stcore/agent/interact": "off",
    "/_stcore/agent/openapi.json": "off",
    "/_stcore/agent/mcp": "off",
    "/auth/login": "login",
    "/auth/logout": "login",
    "/oauth2callback": "login",
}
"""Every address that the server answers at → its rule.

*open*: the program itself and its health, the same for everybody. *off*: switched off on the command line. *unused*: no
page makes a file that has an address of its own, and none takes one. *login*: to the login provider and back. *holder*:
the one way to a page; each answer on it is made by a page that looks up its rule first.
"""


@dataclass(frozen=True)
class Identity:
    """Who sits at a page, as it was found at this very interaction.

    Args:
        subject: under which reads are stored: ``issuer|sub`` of the login, or the name typed on one's own machine.
        name: to show.
        roles: held now.
        team: whether a login provider vouches for it.
    """

    subject: str
    name: str
    roles: frozenset[str]
    team: bool = False


def may_open(identity: Identity, page: str) -> bool:
    """Return whether somebody may open a page; a page without a rule opens for nobody."""
    rule = PAGES.get(page, frozenset())
    if page in TEAM_PAGES and not identity.team:
        return False
    return rule == ANYBODY_SIGNED_IN or bool(rule & identity.roles)


def may(identity: Identity, action: str) -> bool:
    """Return whether somebody may do something; what has no rule is done by nobody."""
    return bool(ACTIONS.get(action, frozenset()) & identity.roles)


def role_for(identity: Identity, stage: str) -> str:
    """Return in which role a read of a stage is made.

    >>> role_for(Identity("a", "A", frozenset({"reader", "adjudicator"})), "adjudication")
    'adjudicator'
    """
    if stage == "adjudication":
        return "adjudicator"
    return "reader" if "reader" in identity.roles else "adjudicator"
