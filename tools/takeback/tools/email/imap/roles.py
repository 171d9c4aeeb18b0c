"""Which folders hold drafts, sent and deleted mail: as configured, as the server says (RFC 6154), or by usual names. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from takeback.tools.email.imap.wire import Listed
from takeback.tools.email.port import INBOX, Role

ATTRIBUTES: Final[dict[Role, str]] = {"sent": "\\sent", "drafts": "\\drafts", "trash": "\\trash"}
USUAL: Final[dict[Role, Sequence[str]]] = {
    "sent": ("Sent", "Sent Items", "Sent Messages", "Sent Mail"),
    "drafts": ("Drafts", "Draft"),
    "trash": ("Trash", "Deleted Items", "Deleted Messages", "Bin"),
}


def roles_of(folders: Sequence[Listed], configured: Mapping[Role, str], prefix: str) -> dict[Role, str]:
    """The folder of each role; it need not be there yet.

    :param configured: what the settings name on purpose.
    :param prefix: what names of a person's own folders begin with here.
    """
    there = {each.name for each in folders}
    found: dict[Role, str] = {"inbox": INBOX}
    for role, attribute in ATTRIBUTES.items():
        named = configured.get(role)
        if named is not None:
            found[role] = named if named in there or named.startswith(prefix) else prefix + named
            continue
        special = next((each.name for each in folders if attribute in each.attributes), None)
        usual = next((name for each in USUAL[role] for name in (each, prefix + each) if name in there), None)
        found[role] = special or usual or prefix + USUAL[role][0]
    return found
