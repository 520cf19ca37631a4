"""Make one backup of one database: dump, count, pack, store in every repository, and conclude with the manifest."""

import io
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import zstandard

from maint import __version__
from maint.backups import crypt, describe, dump, records, restore_md, toc
from maint.backups.manifest import Contents, Dump, File, Manifest, Source
from maint.backups.paths import MANIFEST, Place, new_id
from maint.backups.pipeline import Packing, Target, pump
from maint.backups.reasons import explained
from maint.backups.tar import TarSource
from maint.clock import Clock, Stop
from maint.config.model import RepositoryConfig, ServerConfig
from maint.errors import BackupError, MaintError, RepositoryError
from maint.model import Finding, Severity
from maint.process import Program, run
from maint.repository import Repository, Stored

#: a stream of less than this share of the usual one is suspicious
_USUAL_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class Order:
    """What to back up, how, and into which repositories."""

    server: ServerConfig
    database: str
    repositories: Sequence[tuple[Repository, RepositoryConfig]]
    programs: dump.Programs
    options: dump.Options
    packing: Packing
    owner: records.Owner  #: who makes it: installation, run, process
    job: str
    slot: str
    globals: bytes | None  #: roles and tablespaces, as pg_dumpall writes them
    usual_bytes: float | None  #: of the stream, from earlier backups


@dataclass(frozen=True, slots=True)
class Made:
    """What became of an order."""

    id: str
    manifests: dict[str, Manifest]  #: by repository
    errors: dict[str, MaintError]  #: repositories that left the pass
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class Tools:
    """What a run lends."""

    stop: Stop
    clock: Clock
    log: logging.Logger
    progress: Callable[..., None]


@dataclass(frozen=True, slots=True)
class _Dumped:
    created_at: datetime
    source: Source
    raw_bytes: int
    contents: Contents
    lacks: tuple[str, ...]
    findings: tuple[Finding, ...]


def make(order: Order, tools: Tools) -> Made:
    """Make the backup. Raises what ended it if no repository holds one; then nothing of it is left anywhere."""
    place = Place(order.server.name, order.database, new_id(tools.clock.now()))
    targets = [_target(repository, config, place) for repository, config in order.repositories]
    manifests: dict[str, Manifest] = {}

    def conclude(target: Target) -> None:
        manifests[target.repository.name] = _conclude(order, place, target, dumped, tools.clock)

    with _removed_unless_concluded(targets, place, tools.log):
        _each(targets, lambda target: records.begin(target.repository, place, order.owner))
        dumped = _dump(order, place, targets, tools)
        _each(targets, conclude)
    errors = {target.repository.name: target.error for target in targets if target.error}
    return Made(place.id, manifests, errors, dumped.findings)


def _target(repository: Repository, config: RepositoryConfig, place: Place) -> Target:
    return Target(repository, lambda number: place / f"dump.{number:03}", config.encrypt_to)


def _each(targets: Sequence[Target], work: Callable[[Target], None]) -> None:
    """Do `work` for each target; one that fails leaves the pass. Raises the first error if none is left."""
    for target in targets:
        if target.error is None:
            try:
                work(target)
            except RepositoryError as error:
                target.error = error
    errors = [target.error for target in targets if target.error]
    if len(errors) == len(targets):
        raise errors[0]


@contextmanager
def _removed_unless_concluded(targets: Sequence[Target], place: Place, log: logging.Logger) -> Iterator[None]:
    """Leave nothing of a backup that has no manifest."""
    try:
        yield
    except BaseException:
        for target in targets:
            _remove(target, place, log)
        raise
    for target in targets:
        if target.error:
            _remove(target, place, log)


def _remove(target: Target, place: Place, log: logging.Logger) -> None:
    try:
        for stored in reversed(target.stored):
            target.repository.delete(stored.path, version=stored.version)
        records.end(target.repository, place)
    except RepositoryError as error:
        log.warning("the unfinished %s stays behind in %s: %s", place.prefix, target.repository.name, error)


def _dump(order: Order, place: Place, targets: Sequence[Target], tools: Tools) -> _Dumped:
    progress = _Progress(order.database, tools.progress)
    with dump.session(
        order.server,
        order.database,
        application_name=f"maint run {order.owner.run_id} {place.id[-4:]}",
        stop=tools.stop,
        clock=tools.clock,
    ) as session:
        created_at = tools.clock.now()
        source, sequences = describe.source(session.observer), describe.sequences(session.observer)
        progress.total = order.usual_bytes or source.size_bytes
        session.counter.start()
        watched = dump.watched(session, order.database, clock=tools.clock, log=tools.log, tell=progress.copies)
        with explained(), watched:
            raw, listing = _DUMPERS[order.options.format](order, session, targets, tools, progress)
        session.counter.finish(complete=True)
        contents, findings = describe.contents(session.observer, session.counter, listing, sequences, order.database)
        lacks = describe.lacks(session.observer)
    if order.options.folder is not None:
        raw = _pump(TarSource(order.options.folder, remove=True), order, targets, tools, progress)
    findings += [*session.findings, *_too_small(order, raw)]
    return _Dumped(created_at, source, raw, contents, lacks, tuple(findings))


def _custom(
    order: Order, session: dump.Session, targets: Sequence[Target], tools: Tools, progress: "_Progress"
) -> tuple[int, toc.Contents]:
    """Stream the archive into the repositories; its table of contents is read off its head on the way."""
    command = session.command(order.programs, order.database, order.options)
    with ExitStack() as stack:
        reader = toc.TocReader(order.programs.pg_restore, stop=tools.stop)
        stack.callback(reader.close)
        source = stack.enter_context(Program(command, stop=tools.stop, log=tools.log))

        def tap(data: bytes) -> None:
            reader.feed(data)
            progress(data)

        raw = _pump(source, order, targets, tools, tap)
        return raw, reader.result()


def _directory(
    order: Order, session: dump.Session, _targets: Sequence[Target], tools: Tools, progress: "_Progress"
) -> tuple[int, toc.Contents]:
    """Let pg_dump's workers write into the scratch folder, from where it is sent afterwards."""
    _check_space(order)
    progress.folder = order.options.folder
    command = session.command(order.programs, order.database, order.options)
    with Program(command, stop=tools.stop, log=tools.log) as program:
        progress(b"")
        program.wait()
    progress.restart()
    listing = run(toc.list_command(order.programs.pg_restore, order.options.folder), stop=tools.stop, log=tools.log)
    return 0, toc.parse(listing)


_DUMPERS = {"custom": _custom, "directory": _directory}


def _check_space(order: Order) -> None:
    assert order.options.folder is not None  # noqa: S101 - the directory format always has one
    free = describe.free_bytes(order.options.folder)
    if order.usual_bytes is not None and free < order.usual_bytes:
        raise BackupError(
            f"the directory format needs about {order.usual_bytes / 1e9:.1f} GB in {order.options.folder.parent}, "
            f"{free / 1e9:.1f} GB are free",
            hint='free some space, move state_dir, or use format = "custom", which needs none',
        )


def _pump(
    source: "Program | TarSource",
    order: Order,
    targets: Sequence[Target],
    tools: Tools,
    tap: Callable[[bytes], None],
) -> int:
    living = [target for target in targets if target.error is None]
    return pump(source, living, order.packing, stop=tools.stop, tap=tap)


class _Progress:
    """Tells the run how much of the stream has been read, or written into the folder of the directory format."""

    def __init__(self, database: str, tell: Callable[..., None]) -> None:
        self._database = database
        self._tell = tell
        self._done = 0
        self._table = ""
        self.total: float = 0
        self.folder: Path | None = None

    def __call__(self, data: bytes) -> None:
        self._done += len(data)
        self._tell(self._database, done_bytes=self._done, total_bytes=self.total, what=self._table)

    def restart(self) -> None:
        """The folder is complete: what counts from now on is what is sent of it."""
        self.folder, self._done, self._table = None, 0, ""

    def copies(self, table: str) -> None:
        """Take note of the table that pg_dump copies; asked now and then."""
        self._table = table
        if self.folder is not None:
            self._done = describe.bytes_below(self.folder)
        self(b"")


def _too_small(order: Order, raw: int) -> list[Finding]:
    if not order.usual_bytes or raw >= order.usual_bytes * _USUAL_SHARE:
        return []
    return [
        Finding(
            check="backup.small",
            severity=Severity.WARNING,
            object=order.database,
            message=f"the dump of {order.database} is much smaller than usual",
            value=f"{raw} bytes",
            threshold=f"half of the usual {order.usual_bytes:.0f} bytes",
            fix=f"maint backups --database {order.database}",
        )
    ]


def _conclude(order: Order, place: Place, target: Target, dumped: _Dumped, clock: Clock) -> Manifest:
    """Write what goes along, and the manifest last."""
    volumes = [_file(stored, place) for stored in target.stored]
    files = list(volumes)
    dump_ = Dump(
        volumes=tuple(file.name for file in volumes),
        raw_bytes=dumped.raw_bytes,
        stored_bytes=sum(file.size for file in volumes),
    )
    globals_ = None
    if order.globals is not None:
        globals_ = "globals.sql.zst" + (".age" if target.recipients else "")
        files.append(_put(target, place, globals_, _sealed(order.globals, target.recipients)))
    instructions = restore_md.instructions(
        place=place,
        created_at=dumped.created_at,
        source=dumped.source,
        dump=dump_,
        format_=order.options.format,
        compression=order.packing.name,
        encrypted=bool(target.recipients),
        globals_=globals_,
    )
    files.append(_put(target, place, "RESTORE.md", instructions))
    files.append(_put(target, place, "SHA256SUMS", restore_md.checksums(files)))
    manifest = Manifest(
        id=place.id,
        installation=order.owner.installation,
        host=order.owner.host,
        job=order.job,
        run_id=order.owner.run_id,
        slot=order.slot,
        server=place.server,
        database=place.database,
        created_at=dumped.created_at,
        finished_at=clock.now(),
        format="custom" if order.options.format == "custom" else "directory",
        compression=order.packing.name,
        encrypted=bool(target.recipients),
        recipients=target.recipients,
        files=tuple(files),
        size_bytes=sum(file.size for file in files),
        dump=dump_,
        source=dumped.source,
        contents=dumped.contents,
        lacks=dumped.lacks,
        tools={"maint": __version__, "pg_dump": order.programs.version},
    )
    _put(target, place, MANIFEST, manifest.to_json())
    return manifest


def _file(stored: Stored, place: Place) -> File:
    return File(
        name=stored.path.removeprefix(place.prefix),
        size=stored.size,
        sha256=stored.sha256,
        version=stored.version,
        confirmed_by=stored.confirmed_by,
    )


def _put(target: Target, place: Place, name: str, data: bytes) -> File:
    with target.repository.create(place / name, size_hint=len(data)) as upload:
        upload.write(data)
        stored = upload.commit()
    target.stored.append(stored)
    return _file(stored, place)


def _sealed(data: bytes, recipients: Sequence[str]) -> bytes:
    packed = zstandard.ZstdCompressor(write_checksum=True).compress(data)
    if not recipients:
        return packed
    import pyrage

    sealed = io.BytesIO()
    pyrage.encrypt_io(io.BytesIO(packed), sealed, crypt.recipients(recipients))
    return sealed.getvalue()
