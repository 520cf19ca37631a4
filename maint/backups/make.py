"""Make one backup of one database: dump, count, pack, store in every repository, and conclude with the manifest."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from maint.backups import describe, dump, restore_md, toc
from maint.backups.manifest import Contents, DatabaseManifest, Source
from maint.backups.passes import Made, Maker, Part, Pass, Tools, begun, too_small
from maint.backups.paths import Place, new_id
from maint.backups.pipeline import Packing
from maint.backups.reasons import explained
from maint.backups.stores import Stores
from maint.backups.tar import TarSource
from maint.config.model import ServerConfig
from maint.errors import BackupError
from maint.model import Finding
from maint.process import Program, run


@dataclass(frozen=True, slots=True)
class Order:
    """What to back up, how, and into which repositories."""

    server: ServerConfig
    database: str
    repositories: Stores
    programs: dump.Programs
    options: dump.Options
    packing: Packing
    maker: Maker
    globals: bytes | None  #: roles and tablespaces, as pg_dumpall writes them
    usual_bytes: float | None  #: of the stream, from earlier backups


@dataclass(frozen=True, slots=True)
class _Dumped:
    created_at: datetime
    source: Source
    contents: Contents
    lacks: tuple[str, ...]
    findings: tuple[Finding, ...]


def make(order: Order, tools: Tools) -> Made[DatabaseManifest]:
    """Make the backup. Raises what ended it if no repository holds one; then nothing of it is left anywhere."""
    place = Place(order.server.name, order.database, new_id(tools.clock.now()))
    manifests: dict[str, DatabaseManifest] = {}

    def conclude(part: Part) -> None:
        manifests[part.repository.name] = _conclude(order, one, part, dumped)

    with begun(place, order.repositories, order.maker, order.packing, tools) as one:
        dumped = _dump(order, one)
        one.each(conclude)
    return Made(place.id, manifests, one.errors, dumped.findings)


def _dump(order: Order, one: Pass) -> _Dumped:
    tools = one.tools
    progress = _Progress(order.database, tools.progress)
    with dump.session(
        order.server,
        order.database,
        application_name=f"maint run {order.maker.owner.run_id} {one.place.id[-4:]}",
        stop=tools.stop,
        clock=tools.clock,
    ) as session:
        created_at = tools.clock.now()
        source, sequences = describe.source(session.observer), describe.sequences(session.observer)
        progress.total = order.usual_bytes or source.size_bytes
        session.counter.start()
        watched = dump.watched(session, order.database, clock=tools.clock, log=tools.log, tell=progress.copies)
        with explained(), watched:
            raw, listing = _DUMPERS[order.options.format](order, session, one, progress)
        session.counter.finish(complete=True)
        contents, findings = describe.contents(session.observer, session.counter, listing, sequences, order.database)
        lacks = describe.lacks(session.observer)
    if order.options.folder is not None:
        raw = one.pump("dump", TarSource(order.options.folder, remove=True), progress)
    findings += [*session.findings, *too_small(order.database, raw, order.usual_bytes)]
    return _Dumped(created_at, source, contents, lacks, tuple(findings))


def _custom(order: Order, session: dump.Session, one: Pass, progress: "_Progress") -> tuple[int, toc.Contents]:
    """Stream the archive into the repositories; its table of contents is read off its head on the way."""
    command = session.command(order.programs, order.database, order.options)
    with ExitStack() as stack:
        reader = toc.TocReader(order.programs.pg_restore, stop=one.tools.stop)
        stack.callback(reader.close)
        source = stack.enter_context(Program(command, stop=one.tools.stop, log=one.tools.log))

        def tap(data: bytes) -> None:
            reader.feed(data)
            progress(data)

        raw = one.pump("dump", source, tap)
        return raw, reader.result()


def _directory(order: Order, session: dump.Session, one: Pass, progress: "_Progress") -> tuple[int, toc.Contents]:
    """Let pg_dump's workers write into the scratch folder, from where it is sent afterwards."""
    _check_space(order)
    tools = one.tools
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


def _conclude(order: Order, one: Pass, part: Part, dumped: _Dumped) -> DatabaseManifest:
    """Write what goes along, and the manifest last."""
    stream = part.streams["dump"]
    globals_ = part.put_sealed("globals.sql", order.globals) if order.globals is not None else None
    instructions = restore_md.instructions(
        place=one.place,
        created_at=dumped.created_at,
        source=dumped.source,
        dump=stream,
        format_=order.options.format,
        compression=order.packing.name,
        encrypted=bool(part.recipients),
        globals_=globals_,
    )
    part.put("RESTORE.md", instructions)
    part.put("SHA256SUMS", restore_md.checksums(part.files))
    manifest = DatabaseManifest(
        **one.facts(part, dumped.created_at, {"pg_dump": order.programs.version}),
        format="custom" if order.options.format == "custom" else "directory",
        dump=stream,
        source=dumped.source,
        contents=dumped.contents,
        lacks=dumped.lacks,
    )
    one.conclude(part, manifest)
    return manifest
