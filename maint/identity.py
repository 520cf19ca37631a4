"""Which installation of maint this is: a part of every manifest, and of what retention may touch."""

import os
import socket
import uuid
from pathlib import Path

from maint.config.model import Config
from maint.errors import HistoryError


def installation(config: Config) -> str:
    """Return the name of this installation: configured, or made up once and kept in `state_dir`."""
    if config.installation:
        return config.installation
    path = config.state_dir / "installation"
    try:
        if not (name := path.read_text().strip()):
            path.unlink()  # a power cut took what was in it
    except FileNotFoundError:
        name = ""
    except OSError as error:
        raise _unusable(path, error) from error
    return name or _new_installation(path)


def _new_installation(path: Path) -> str:
    name = f"{socket.gethostname().split('.')[0]}-{uuid.uuid4().hex[:8]}"
    draft = path.with_name(f".installation-{os.getpid()}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with draft.open("w") as file:
            file.write(name + "\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)  # the first one wins
        except FileExistsError:
            return path.read_text().strip()
        finally:
            draft.unlink()
    except OSError as error:
        raise _unusable(path, error) from error
    return name


def _unusable(path: Path, error: OSError) -> HistoryError:
    return HistoryError(
        f"state_dir {path.parent} cannot be used: {error.strerror}",
        hint="set state_dir in maint.toml to a folder this user may write, or run maint as its owner",
    )
