"""Keys that versions are signed with, made on the spot."""

from importlib.util import find_spec
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

needs_signing = pytest.mark.skipif(
    find_spec("model_signing") is None, reason="model-signing is not installed: requirements/dev.lock has it"
)


@pytest.fixture(scope="module")
def keys_of_module(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    return write_keys(tmp_path_factory.mktemp("keys"))


def write_keys(directory: Path, name: str = "signing", password: bytes | None = None) -> tuple[str, str]:
    """Writes a pair of PEM files; returns the paths of the private and of the public key."""
    directory.mkdir(parents=True, exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    private, public = directory / f"{name}.pem", directory / f"{name}.pub"
    protection = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, protection)
    )
    public.write_bytes(
        key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    return str(private), str(public)
