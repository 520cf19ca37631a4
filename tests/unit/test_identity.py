"""The name of an installation: made up once, and never empty."""

from pathlib import Path

from maint.config.model import Config
from maint.identity import installation


def test_made_up_once(tmp_path: Path) -> None:
    config = Config(state_dir=tmp_path / "state")
    name = installation(config)
    assert name
    assert installation(config) == name
    assert [path.name for path in config.state_dir.iterdir()] == ["installation"]


def test_a_file_emptied_by_a_power_cut_is_replaced(tmp_path: Path) -> None:
    # two installations without a name would prune each other's backups
    (tmp_path / "installation").touch()
    name = installation(Config(state_dir=tmp_path))
    assert name
    assert (tmp_path / "installation").read_text() == f"{name}\n"
