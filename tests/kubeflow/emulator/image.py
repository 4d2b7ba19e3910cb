"""The project's image as ``make image`` builds it, from stand-ins of what only a registry has."""

import functools
import zlib
from pathlib import Path
from typing import Final

from emulator import engine as engines
from emulator.engine import Engine, Image
from emulator.pod import REPOSITORY

SERVER: Final = "2.21.0-stand-in"
"""The version that the model server in the image says it is of."""
USER: Final = 65532
"""Whose number the image's processes have."""
# A server with a library of its own, which answers as the real one does: by the embedded server.
_STAND_IN: Final = {
    "version.c": f"""
const char *version(void) {{ return "TensorFlow ModelServer: {SERVER}\\nTensorFlow Library: 2.21.0"; }}
""",
    "server.c": """
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
const char *version(void);
int main(int count, char **given) {
    if (count > 1 && !strcmp(given[1], "--version")) return puts(version()) < 0;
    char **command = calloc(count + 3, sizeof *command);
    command[0] = "python"; command[1] = "-m"; command[2] = "components.serving.server";
    memcpy(command + 3, given + 1, count * sizeof *command);
    return execvp(*command, command);
}
""",
    "Dockerfile": f"""
FROM {engines.BUILDER}
COPY version.c server.c ./
RUN gcc -shared -fPIC -o /usr/local/lib/libstandin.so version.c && ldconfig && \\
    gcc -o /usr/bin/tensorflow_model_server server.c -lstandin
""",
}

# Of Beam's image what the build takes; in place of a worker, the stand-in says how it was called.
_BEAM_STAND_IN: Final = f"""
FROM {engines.BASE}
RUN mkdir -p /opt/apache/beam && cd /opt/apache/beam && echo license > LICENSE && echo notice > NOTICE && \\
    printf '#!/bin/sh\\necho boot "$@"\\n' > boot && chmod 755 boot
"""


def base_images(serving: str, beam: str = "builder") -> str:
    """What tells ``make image`` to build from this machine's base images; whose server, whose boot."""
    images = {
        "BUILDER_IMAGE": engines.BUILDER,
        "PYTHON_IMAGE": engines.BASE,
        "SERVING_IMAGE": serving,
        "BEAM_IMAGE": beam,
    }
    return f"BASE_IMAGES={' '.join(f'{name}={image}' for name, image in images.items())}"


@functools.cache
def engine(session: Path) -> Engine:
    """A configured engine with the base images, the same for all modules of a session.

    ``session`` is the session's directory, ``tmp_path_factory.getbasetemp()``.
    """
    podman = Engine.configured(_new(session / "podman"))
    podman.prepare_base_images()
    return podman


@functools.cache
def built(session: Path) -> Image:
    """The image of this checkout, with stand-ins of a server and of Beam's boot, built once a session."""
    serving, beam = f"{engines.NAME}/serving:stand-in", f"{engines.NAME}/beam:stand-in"
    # Not that of another checkout on this machine, which may be tested at the same time.
    name = f"{engines.NAME}/pipeline:{zlib.crc32(str(REPOSITORY).encode()):08x}"
    source = _new(session / "serving")
    for file, text in _STAND_IN.items():
        (source / file).write_text(text)
    engine(session).do("build", "--tag", serving, str(source))
    engine(session).do("build", "--tag", beam, "--file=-", str(source), input=_BEAM_STAND_IN)
    done = engine(session).make_image(REPOSITORY, f"IMAGE={name}", base_images(serving, beam))
    assert done.returncode == 0, done.stdout[-5000:]
    return Image(engine(session), name)


def _new(directory: Path) -> Path:
    directory.mkdir()
    return directory
