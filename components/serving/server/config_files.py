"""The server's smaller configuration files, in protocol buffers' text format as for tensorflow_model_server.

tensorflow-serving-api does not ship the messages of these files; they are declared here. Source:
tensorflow_serving/config/ssl_config.proto and monitoring_config.proto.
"""

import ssl
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from components.serving.server.errors import ServingError
from components.serving.server.options import OptionsError
from components.serving.server.text_proto import read_text_proto

PROMETHEUS_PATH: Final = "/monitoring/prometheus/metrics"
"""Where metrics are served unless the file names another path. Source: prometheus_exporter.cc."""

_PACKAGE: Final = "tensorflow.serving"
_Field = descriptor_pb2.FieldDescriptorProto
_MESSAGES: Final[dict[str, dict[str, Any]]] = {
    "SSLConfig": {
        "server_key": _Field.TYPE_STRING,
        "server_cert": _Field.TYPE_STRING,
        "custom_ca": _Field.TYPE_STRING,
        "client_verify": _Field.TYPE_BOOL,
    },
    "PrometheusConfig": {"enable": _Field.TYPE_BOOL, "path": _Field.TYPE_STRING},
    "MonitoringConfig": {"prometheus_config": "PrometheusConfig"},
}


@dataclass(frozen=True)
class TlsConfig:
    """Certificates of a server, PEM."""

    key: bytes
    certificate: bytes
    client_authority: bytes | None
    """Who signs the clients' certificates; None where any client may come."""


def read_ssl_config(path: str) -> TlsConfig:
    """Reads an SSLConfig, whose fields hold the PEM texts themselves.

    Raises:
        OptionsError: it cannot be read, or holds no certificate that loads.
    """
    config = _read(path, "SSLConfig", "ssl_config_file")
    for field in ("server_key", "server_cert"):
        if "-----BEGIN" not in getattr(config, field):
            raise OptionsError(f"--ssl_config_file {path}: {field} must hold the PEM text itself, not a path")
    _check_pair(config.server_key, config.server_cert, path)
    if config.client_verify:
        _check_authority(config.custom_ca, path)
    return TlsConfig(
        config.server_key.encode(),
        config.server_cert.encode(),
        config.custom_ca.encode() if config.client_verify else None,
    )


def read_monitoring_config(path: str) -> str | None:
    """Reads a MonitoringConfig; returns the path of the metrics, None where they are not turned on.

    Raises:
        OptionsError: it cannot be read.
    """
    config = _read(path, "MonitoringConfig", "monitoring_config_file").prometheus_config
    return (config.path or PROMETHEUS_PATH) if config.enable else None


def _read(path: str, message: str, flag: str) -> Any:
    try:
        return read_text_proto(Path(path), _message_class(message)())
    except ServingError as error:
        raise OptionsError(f"--{flag} is no {message} that can be read: {error.message}") from None


def _message_class(name: str) -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="server_config.proto", package=_PACKAGE, syntax="proto3")
    for message, fields in _MESSAGES.items():
        declared = file.message_type.add(name=message)
        for number, (field, kind) in enumerate(fields.items(), start=1):
            entry = declared.field.add(name=field, number=number, label=_Field.LABEL_OPTIONAL)
            if isinstance(kind, str):
                entry.type, entry.type_name = _Field.TYPE_MESSAGE, f".{_PACKAGE}.{kind}"
            else:
                entry.type = kind
    # A pool of its own: the default one may come to know these messages from elsewhere.
    added = descriptor_pool.DescriptorPool().AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(added.message_types_by_name[name])


def _check_pair(key: str, certificate: str, path: str) -> None:
    """GRPC says of a certificate that does not load only that a port could not be opened."""
    with tempfile.NamedTemporaryFile("w", suffix=".pem", encoding="utf-8") as file:
        file.write(f"{key}\n{certificate}\n")
        file.flush()
        try:
            # A password is given so that nobody is asked for one: gRPC takes no key that needs any.
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(file.name, password="")
        except OSError as error:
            reason = getattr(error, "reason", None) or error.strerror
            raise OptionsError(
                f"--ssl_config_file {path}: server_key and server_cert do not load together ({reason}); "
                "a key with a pass phrase is one that gRPC cannot use"
            ) from None


def _check_authority(certificate: str, path: str) -> None:
    if not certificate:
        raise OptionsError(f"--ssl_config_file {path}: client_verify needs custom_ca, who signs the clients")
    # By way of a file: bundles name their authorities in comments, which need not be ASCII.
    with tempfile.NamedTemporaryFile("w", suffix=".pem", encoding="utf-8") as file:
        file.write(certificate)
        file.flush()
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(cafile=file.name)
        except OSError:
            raise OptionsError(
                f"--ssl_config_file {path}: custom_ca must hold the PEM text of a certificate itself, "
                "not a path"
            ) from None
