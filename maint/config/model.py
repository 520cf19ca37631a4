"""The models of the configuration: `Config` and what it is made of. Frozen; unknown keys are errors."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    SerializeAsAny,
    StringConstraints,
    field_validator,
    model_validator,
)

from maint.config.values import Duration, Size, check_dsn, mask_dsn, matches
from maint.schedule import Schedule, Window, check_zone


class Table(BaseModel):
    """A table of a TOML file: frozen, unknown keys are errors. Option models of tasks derive from it."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
        populate_by_name=True,
        defer_build=True,  # most commands need few of the models
    )


def _absolute(path: Path) -> Path:
    path = path.expanduser()
    if not path.is_absolute():
        raise ValueError("not an absolute path: the daemon does not run where you are now")
    return path


AbsolutePath = Annotated[Path, AfterValidator(_absolute)]
#: of servers, repositories and jobs; safe in paths, object keys, unit names and on a command line
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_-]*$")]
Patterns = Annotated[tuple[str, ...], Field(min_length=1)]
Zone = Annotated[str, AfterValidator(check_zone)]
_POSITIVE = Field(gt=timedelta(0))


class Objectives(Table):
    """Optional promises, measured: the table ``[objectives]``."""

    rpo: Annotated[Duration, _POSITIVE] | None = Field(None, description="age of the newest good backup")
    proof: Annotated[Duration, _POSITIVE] | None = Field(None, description="age of the newest proven backup")
    rto: Annotated[Duration, _POSITIVE] | None = Field(None, description="time of the latest measured restore")


class ServerObjectives(Objectives):
    """Those of one server, key by key over the global ones: ``[server.NAME.objectives]``."""

    database: dict[str, Objectives] = Field(
        default_factory=dict, description="by the name of a database, key by key over the server's"
    )


class ServerConfig(Table):
    """One managed PostgreSQL server: a table ``[server.NAME]``."""

    name: Name
    dsn: SecretStr = Field(
        SecretStr(""),
        description="libpq connection string: key=value pairs, URI or service=…; empty: libpq's defaults",
    )
    databases: Patterns = Field(
        ("*",), description='patterns, "!" excludes; template and provider-internal databases are never taken'
    )
    maintenance_db: str = Field("postgres", description="where the advisory locks are taken")
    bin_dir: AbsolutePath | None = Field(
        None,
        description="folder of pg_dump and its kin; default: the best match for the server's major version",
    )
    password_file: AbsolutePath | None = Field(None, description="a password file in the format of ~/.pgpass")
    objectives: ServerObjectives | None = Field(None, description="promises that differ from those of [objectives]")

    @field_validator("dsn")
    @classmethod
    def _check_dsn(cls, value: SecretStr) -> SecretStr:
        check_dsn(value.get_secret_value())
        return value

    @property
    def shown_dsn(self) -> str:
        """The connection string with every secret masked."""
        return mask_dsn(self.dsn.get_secret_value())


#: keys of a repository that mean nothing for a directory
S3_ONLY = frozenset(
    (
        *("endpoint", "region", "access_key", "secret_key", "session_token", "profile", "ca_file"),
        *("path_style", "sse", "sse_kms_key", "storage_class", "part_size", "max_parts", "lock", "lock_mode"),
    )
)


class RepositoryConfig(Table):
    """Where backups are kept: a table ``[repository.NAME]``."""

    name: Name
    url: str = Field(description='"file:///an/absolute/path" or "s3://bucket/prefix"')
    endpoint: str | None = Field(None, description="URL of an S3-compatible store; default: AWS")
    region: str | None = None
    access_key: SecretStr | None = Field(None, description="default: where AWS tools look for credentials")
    secret_key: SecretStr | None = None
    session_token: SecretStr | None = None
    profile: str | None = Field(None, description="profile in ~/.aws/config")
    ca_file: AbsolutePath | None = Field(None, description="certificate authorities to trust, PEM")
    path_style: bool | None = Field(None, description="bucket in the path; default: true with an endpoint")
    sse: Literal["AES256", "aws:kms"] | None = Field(None, description="server-side encryption")
    sse_kms_key: str | None = None
    storage_class: str | None = None
    part_size: Size = Field(32 << 20, ge=5 << 20, le=5 << 30, description="bytes of one part of an upload")
    max_parts: int = Field(1000, ge=1, le=10000, description="parts of one object; a larger dump becomes several")
    lock: Annotated[Duration, _POSITIVE] | None = Field(None, description="object lock: nobody deletes before it ends")
    lock_mode: Literal["GOVERNANCE", "COMPLIANCE"] = "GOVERNANCE"
    read_back: bool | None = Field(
        None,
        description="read every object again after writing; default: unless the store checks digests itself",
    )
    required: bool = Field(True, description="a run fails when this repository could not be written")
    encrypt_to: tuple[str, ...] = Field((), description="public keys (age1…, ssh-…)")
    identity_file: AbsolutePath | None = Field(None, description="private keys (age), only where restores run")

    @field_validator("url")
    @classmethod
    def _check_url(cls, url: str) -> str:
        scheme, separator, rest = url.partition("://")
        parts = rest.rstrip("/").split("/")
        if not separator or scheme not in ("file", "s3"):
            raise ValueError('not a repository: write "file:///an/absolute/path" or "s3://bucket/prefix"')
        if scheme == "file" and (parts[0] or len(parts) < 2):
            raise ValueError("needs an absolute path below the root: file:///var/backups/maint")
        if scheme == "s3" and (len(parts) < 2 or not parts[0]):
            raise ValueError(f"needs a prefix of its own in the bucket: s3://{parts[0] or 'bucket'}/maint")
        if not all(parts[1:]) or {".", ".."} & set(parts):
            raise ValueError("has an empty part, or . or .. in its path")
        return url.rstrip("/")

    @field_validator("endpoint")
    @classmethod
    def _check_endpoint(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("http://", "https://")):
            raise ValueError("not a URL: write https://host[:port]")
        return value

    @field_validator("encrypt_to")
    @classmethod
    def _check_keys(cls, keys: tuple[str, ...]) -> tuple[str, ...]:
        if any(key.upper().startswith("AGE-SECRET-KEY-") for key in keys):
            raise ValueError("holds a private key: give the public one (age1…), and keep this one in identity_file")
        if not all(key.startswith(("age1", "ssh-ed25519 ", "ssh-rsa ")) for key in keys):
            raise ValueError("not a public key: age1…, ssh-ed25519 … or ssh-rsa …")
        return keys

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if self.url.startswith("file:") and (extra := sorted(S3_ONLY & self.model_fields_set)):
            raise ValueError(f"{', '.join(extra)}: only for s3:// (remove it)")
        if (self.access_key is None) != (self.secret_key is None):
            raise ValueError("access_key and secret_key belong together: give both or none")
        if self.sse_kms_key and self.sse != "aws:kms":
            raise ValueError('sse_kms_key needs sse = "aws:kms"')
        return self


class HistoryConfig(Table):
    """Where the history is kept: the table ``[history]``."""

    url: SecretStr | None = Field(None, description="SQLAlchemy URL; default: SQLite in state_dir")


class Mail(Table):
    """How mail is sent: the table ``[mail]``."""

    host: str
    port: int = Field(587, ge=1, le=65535)
    from_: str = Field(alias="from")
    to: tuple[str, ...] = Field(min_length=1)


class Http(Table):
    """Health, metrics and status page: the table ``[http]``."""

    listen: str = Field("127.0.0.1:9188", pattern=r"^$|^.+:\d{1,5}$", description='address:port; "" switches it off')


class Channel(Table):
    """Where alerts go: a table ``[[alerts.channel]]``."""

    url: SecretStr = Field(description="any Apprise URL")
    min_severity: Literal["info", "warning", "critical"] = "warning"
    jobs: Patterns = ("*",)
    servers: Patterns = ("*",)


class Alerts(Table):
    """The table ``[alerts]``."""

    channel: tuple[Channel, ...] = ()


class Keep(Table):
    """What retention keeps, by age class; a backup stays if any of them wants it."""

    last: int = Field(0, ge=0, description="the newest N")
    hourly: int = Field(0, ge=0, description="the newest of each of the last N hours that have one")
    daily: int = Field(0, ge=0)
    weekly: int = Field(0, ge=0)
    monthly: int = Field(0, ge=0)
    yearly: int = Field(0, ge=0)
    within: Duration | None = Field(None, description="everything this much older than the newest backup, or less")

    @model_validator(mode="after")
    def _check_something(self) -> Self:
        counts = (self.last, self.hourly, self.daily, self.weekly, self.monthly, self.yearly)
        if not any(counts) and not self.within:
            raise ValueError("keeps nothing: set at least one, as in { last = 3, daily = 7 }")
        return self


class Job(Table):
    """A task with its schedule, servers and options: a file ``jobs/NAME.toml``."""

    name: Name
    task: str = Field(description="what is done: see `maint tasks`")
    enabled: bool = True
    mode: Literal["act", "advise"] = Field("act", description="advise: plan and report, change nothing")
    schedule: str | None = Field(None, description='cron with five fields, or "@daily" and its kin')
    after: str | None = Field(None, description="the job after whose slots this one runs, instead of a schedule")
    timezone: Zone = Field("UTC", description="of schedule and window; default: the one of maint.toml")
    servers: Patterns = ("*",)
    timeout: Annotated[Duration, _POSITIVE] | None = Field(None, description="a run that takes longer is ended")
    idle_timeout: Annotated[Duration, _POSITIVE] | None = Field(
        None, description="a run that makes no progress for this long is ended"
    )
    window: str | None = Field(None, description='when it may work, as in "22:00-06:00"; it stops when that ends')
    wait: Duration = Field(timedelta(minutes=10), description="how long to wait for the lock of a busy database")
    retries: int = Field(0, ge=0, le=100, description="further attempts after an error that may pass")
    retry_delay: Duration = Field(timedelta(minutes=1), description="before the first of them; doubled each time")
    catch_up: Literal["once", "skip"] = Field("once", description="what becomes of slots missed while off")
    catch_up_max_age: Duration = Field(timedelta(days=1), description="a slot missed longer ago is not caught up")
    jitter: Duration = Field(timedelta(0), description="start up to this much later, to spread the load")
    parallel: int = Field(1, ge=1, le=64, description="actions at a time")
    options: SerializeAsAny[BaseModel] = Field(default_factory=Table, description="the task's own")

    @field_validator("schedule")
    @classmethod
    def _check_schedule(cls, value: str | None) -> str | None:
        if value is not None:
            Schedule.parse(value)
        return value

    @field_validator("window")
    @classmethod
    def _check_window(cls, value: str | None) -> str | None:
        if value is not None:
            Window.parse(value)
        return value

    @model_validator(mode="after")
    def _check_one_trigger(self) -> Self:
        if self.schedule is not None and self.after is not None:
            raise ValueError("schedule and after exclude each other: remove one")
        return self

    @property
    def cron(self) -> Schedule | None:
        """The schedule in the job's zone; None if it runs only after another job, or only by hand."""
        return Schedule.parse(self.schedule, self.timezone) if self.schedule else None

    @property
    def hours(self) -> Window | None:
        """The window in the job's zone."""
        return Window.parse(self.window, self.timezone) if self.window else None


class MaintToml(Table):
    """The keys of ``maint.toml``."""

    timezone: Zone = Field("UTC", description="default zone of the jobs and of retention")
    installation: Name | None = Field(
        None, description="name of this installation in manifests; default: generated once in state_dir"
    )
    state_dir: AbsolutePath | None = Field(
        None, description="default: $STATE_DIRECTORY, /var/lib/maint for root, else $XDG_STATE_HOME/maint"
    )
    server: dict[str, ServerConfig] = Field(default_factory=dict)
    repository: dict[str, RepositoryConfig] = Field(default_factory=dict)
    history: HistoryConfig = HistoryConfig()
    objectives: Objectives = Objectives()
    mail: Mail | None = None
    http: Http = Http()
    alerts: Alerts = Alerts()


class Config(MaintToml):
    """Everything that is configured, after validation: ``maint.toml`` and all jobs."""

    state_dir: AbsolutePath
    jobs: dict[str, Job] = Field(default_factory=dict)
    path: Path | None = None  #: the maint.toml; None in tests and the demo
    #: where each value that was set comes from: "jobs.backup.options.keep" -> a file, or "shipped"
    origins: Mapping[str, str] = Field(default_factory=dict, repr=False)
    #: texts that must never be shown: for the redaction of maint.log
    secrets: tuple[str, ...] = Field((), repr=False)

    def origin(self, key: str) -> str:
        """Tell where the value of `key` ("jobs.backup.retries") is from: a file, "shipped" or "default"."""
        return self.origins.get(key, "default")

    def servers_of(self, patterns: Sequence[str]) -> list[ServerConfig]:
        """Return the servers that `patterns` select, in the order of the file."""
        return [server for name, server in self.server.items() if matches(patterns, name)]

    def repositories_of(self, patterns: Sequence[str]) -> list[RepositoryConfig]:
        """Return the repositories that `patterns` select, in the order of the file."""
        return [repository for name, repository in self.repository.items() if matches(patterns, name)]

    def objectives_of(self, server: str, database: str | None = None) -> Objectives:
        """Return what is promised of a database, or of a server's at large."""
        own = self.server[server].objectives if server in self.server else None
        tables: list[Objectives] = [self.objectives]
        if own is not None:
            tables += [own, *([own.database[database]] if database in own.database else [])]
        keys = Objectives.model_fields
        merged = {key: value for table in tables for key in keys if (value := getattr(table, key)) is not None}
        return Objectives.model_construct(**merged)
