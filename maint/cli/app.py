"""What every command needs: the configuration and the history, opened when first asked for."""

import sys
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from maint.clock import Clock, SystemClock

if TYPE_CHECKING:
    from maint.config.model import Config
    from maint.history import History


@dataclass
class App:
    """The object behind ``@click.pass_obj``."""

    config_path: Path | None
    debug: bool = False
    clock: Clock = field(default_factory=SystemClock)

    @cached_property
    def config(self) -> "Config":
        """The configuration, with its secrets registered for redaction. Raises `ConfigError`."""
        from maint import config as configuration
        from maint import log
        from maint.tasks import OPTIONS

        config = configuration.load(configuration.find(self.config_path), options=OPTIONS)
        for secret in config.secrets:
            log.register_secret(secret)
        return config

    def history(self) -> "History":
        """Open the history; made if it does not exist. To be used in a `with`."""
        from maint.history import History

        return History.open(self.config)

    def history_if_any(self) -> "History | None":
        """Open the history if there is one; for commands that only look."""
        from maint.history import History

        return History.open(self.config) if History.exists(self.config) else None


def on_terminal() -> bool:
    """Whether a person is watching: progress on a terminal, quiet in a pipe."""
    return sys.stderr.isatty()
