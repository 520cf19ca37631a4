"""Age: public keys to encrypt to, private keys to decrypt with."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from maint.errors import UsageError


def recipients(keys: Sequence[str]) -> list[Any]:
    """Return what pyrage encrypts to. Raises `UsageError` for what is no public key."""
    import pyrage

    return [_recipient(pyrage, key) for key in keys]


def _recipient(pyrage: Any, key: str) -> Any:
    try:
        return pyrage.ssh.Recipient.from_str(key) if key.startswith("ssh-") else pyrage.x25519.Recipient.from_str(key)
    except pyrage.RecipientError as error:
        raise UsageError(f"encrypt_to: {key[:20]}… is not a public key ({error})") from error


def identities(path: Path) -> list[Any]:
    """Return the private keys in a file: of age, one a line, or one of ssh. Raises `UsageError`."""
    import pyrage

    try:
        data = path.read_bytes()
        if b"PRIVATE KEY-----" in data:
            return [pyrage.ssh.Identity.from_buffer(data)]
        lines = [line.strip() for line in data.decode().splitlines()]
        return [pyrage.x25519.Identity.from_str(line) for line in lines if line and not line.startswith("#")]
    except OSError as error:
        raise UsageError(f"identity_file {path} cannot be read: {error.strerror}") from error
    except (pyrage.IdentityError, UnicodeDecodeError) as error:
        raise UsageError(f"identity_file {path} holds no private key of age or ssh") from error


def opens(private: Sequence[Any], public: Sequence[Any]) -> bool:
    """Tell whether one of the private keys opens what is encrypted to the public ones."""
    import pyrage

    try:
        return bool(pyrage.decrypt(pyrage.encrypt(b"maint", list(public)), list(private)) == b"maint")
    except pyrage.DecryptError:
        return False
