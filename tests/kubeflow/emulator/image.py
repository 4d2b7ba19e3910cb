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


def base_images(serving: str) -> str:
    """What tells ``make image`` to build from this machine's base images, and whose server to take."""
    images = f"BUILDER_IMAGE={engines.BUILDER} PYTHON_IMAGE={engines.BASE} SERVING_IMAGE={serving}"
    return f"BASE_IMAGES={images}"


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
    """The image of this checkout, with the stand-in of a server, built once a session."""
    serving = f"{engines.NAME}/serving:stand-in"
    # Not that of another checkout on this machine, which may be tested at the same time.
    name = f"{engines.NAME}/pipeline:{zlib.crc32(str(REPOSITORY).encode()):08x}"
    source = _new(session / "serving")
    for file, text in _STAND_IN.items():
        (source / file).write_text(text)
    engine(session).do("build", "--tag", serving, str(source))
    done = engine(session).make_image(REPOSITORY, f"IMAGE={name}", base_images(serving))
    assert done.returncode == 0, done.stdout[-5000:]
    return Image(engine(session), name)


def _new(directory: Path) -> Path:
    directory.mkdir()
    return directory
