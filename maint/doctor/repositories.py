"""Doctor's lines about one repository: what the store lets maint do, space, lock, keys."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path

from maint.backups import crypt
from maint.config.model import Keep, RepositoryConfig
from maint.doctor.lines import fail, guarded, ok, warn
from maint.doctor.retention import lock_against_keep
from maint.errors import MaintError
from maint.format import size
from maint.repository import open_repository
from maint.task import Check


def subject_of(config: RepositoryConfig) -> str:
    return f"repository {config.name}"


def examine(
    config: RepositoryConfig,
    *,
    state_dir: Path,
    write: bool,
    jobs: Mapping[str, tuple[Keep | None, Sequence[timedelta]]],
    expected: int | None,
) -> Iterator[Check]:
    """Try the repository; `jobs` write there, with that `keep` and those times between runs.

    `expected`: bytes that the next backups take at most, if that is known.
    """
    yield from guarded(subject_of(config), lambda: _probed(config, state_dir, write, expected))
    for name, (keep, between) in jobs.items():
        yield from lock_against_keep(config, name, keep, between)
    yield from _keys(config)


def _probed(config: RepositoryConfig, state_dir: Path, write: bool, expected: int | None) -> Iterator[Check]:
    repository = open_repository(config, state_dir=state_dir)
    works = True
    for probe in repository.probe(write=write):
        works = works and probe.status != "FAIL"
        yield Check(probe.status, subject_of(config), probe.message, probe.fix)
    if works:
        yield from space(config, repository.free_bytes(), expected)


def space(config: RepositoryConfig, free: int | None, expected: int | None) -> Iterator[Check]:
    """Compare what is free with what comes next."""
    if free is not None and expected is not None and free < expected:
        yield warn(
            subject_of(config),
            f"{size(free)} are free, the next backups take up to {size(expected)}",
            "free some space, or keep fewer backups: maint backups prune --what-if",
        )


def _keys(config: RepositoryConfig) -> Iterator[Check]:
    """Read the keys, and try whether the private ones open what the public ones close."""
    subject = subject_of(config)
    try:
        recipients = crypt.recipients(config.encrypt_to)
    except MaintError as error:
        yield fail(subject, str(error), f"correct encrypt_to in [repository.{config.name}]")
        return
    if config.identity_file is None:
        if recipients:
            yield ok(subject, f"encrypted to {', '.join(_short(key) for key in config.encrypt_to)}")
        return
    yield from _identity(config.identity_file, config, recipients)


def _short(key: str) -> str:
    return key if len(key) <= 20 else key[:16] + "…"


def _identity(file: Path, config: RepositoryConfig, recipients: Sequence[object]) -> Iterator[Check]:
    subject = subject_of(config)
    try:
        identities = crypt.identities(file)
        mode = file.stat().st_mode & 0o777
    except MaintError as error:
        yield fail(subject, str(error), error.hint or f"make {file} readable for this user, or remove identity_file")
        return
    if mode & 0o077:
        yield fail(subject, f"{file} can be read by others (mode {mode:o})", f"chmod 600 {shlex.quote(str(file))}")
    if recipients and not crypt.opens(identities, recipients):
        yield fail(
            subject,
            f"{file} does not open what encrypt_to closes: backups made now cannot be restored here",
            f"add the private key of one of encrypt_to to {file}",
        )
    elif recipients:
        yield ok(subject, f"{file} opens what is encrypted to {', '.join(_short(key) for key in config.encrypt_to)}")
    else:
        yield warn(
            subject,
            f"{file} is there, but nothing is encrypted: encrypt_to is missing",
            f'encrypt_to = ["age1…"]   # in [repository.{config.name}]',
        )
