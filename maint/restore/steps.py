"""What a restore changes on a server: told and done, or only told (``--dry-run``): the same words, from one code."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from maint.postgres import Composable, Connection, as_text

#: passwords of roles are stored hashed, and still nobody's business
_PASSWORD = re.compile(r"PASSWORD E?'(?:[^']|'')*'")


@dataclass(frozen=True, slots=True)
class Steps:
    """Does what changes something, having told it."""

    tell: Callable[[str], None]
    dry: bool = False  #: only tell

    def perform(self, connection: Connection, statement: Composable) -> None:
        """Run one statement."""
        self.tell(_PASSWORD.sub("PASSWORD '***'", as_text(statement)) + ";")
        if not self.dry:
            connection.perform(statement)

    def begin(self, what: str) -> bool:
        """Tell what comes next, and return whether it is to be done."""
        self.tell(what)
        return not self.dry
