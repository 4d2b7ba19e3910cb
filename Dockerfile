# The image of every stage, for CPUs or with CUDA's libraries.
#
#   make image                 docker build --target cpu .
#   make image TARGET=gpu      docker build --target gpu .
#
# The digests are placeholders that no registry has; docs/kubeflow.md says how to fill them. Both images are of one
# Python release: the first has what it takes to build a package from source, the second is what ships.
ARG BUILDER_IMAGE=python:3.11-bookworm@sha256:0000000000000000000000000000000000000000000000000000000000000000
ARG PYTHON_IMAGE=python:3.11-slim-bookworm@sha256:0000000000000000000000000000000000000000000000000000000000000000

# hadolint ignore=DL3006
FROM ${BUILDER_IMAGE} AS builder
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
# Every time stamp that a build writes: 1980, the first that a wheel can hold, unless told otherwise.
ARG SOURCE_DATE_EPOCH=315532800
# Paths in debugging symbols would differ from build to build.
ENV CFLAGS=-g0 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore
WORKDIR /build
COPY requirements.lock .
# What builds packages comes from the lock, too: build isolation would fetch whatever is newest. No pip goes into the
# environment; the base image's own installs into it.
RUN python -m venv --without-pip /opt/venv && \
    sed -n '/^\(setuptools\|wheel\)==/,/# via/p' requirements.lock > build.lock && \
    pip --python /opt/venv/bin/python install --no-compile --no-deps --require-hashes -r build.lock

FROM builder AS code
COPY pyproject.toml README.md ./
COPY models models
COPY components components
COPY pipeline pipeline
# Bytecode is made here, because a container cannot write beside the code: without it, importing TFX and TFMA takes
# three times as long, at every stage's start. By hash, so that no time stamp is compared.
RUN pip --python /opt/venv/bin/python wheel --no-deps --no-build-isolation --wheel-dir dist . && \
    pip install --no-compile --no-deps --no-index --target /opt/code dist/*.whl && \
    python -m compileall -q --invalidation-mode unchecked-hash /opt/code && \
    find /opt/code -exec touch --no-dereference --date="@${SOURCE_DATE_EPOCH}" {} +

FROM builder AS cpu-packages
# TensorFlow's headers, 430 MB, are for compiling operators.
RUN pip --python /opt/venv/bin/python install --no-compile --no-deps --require-hashes --no-build-isolation \
        -r requirements.lock && \
    rm -rf /opt/venv/lib/python3.11/site-packages/tensorflow/include && \
    python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/venv/lib && \
    find /opt/venv -exec touch --no-dereference --date="@${SOURCE_DATE_EPOCH}" {} +

FROM builder AS gpu-packages
COPY requirements-gpu.lock .
RUN pip --python /opt/venv/bin/python install --no-compile --no-deps --require-hashes --no-build-isolation \
        -r requirements-gpu.lock && \
    rm -rf /opt/venv/lib/python3.11/site-packages/tensorflow/include && \
    python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/venv/lib && \
    find /opt/venv -exec touch --no-dereference --date="@${SOURCE_DATE_EPOCH}" {} +

# hadolint ignore=DL3006
FROM ${PYTHON_IMAGE} AS runtime
# Some libraries ask who they run as, and fail for a number without a name.
RUN echo 'pipeline:x:65532:65532:pipeline:/tmp:/usr/sbin/nologin' >> /etc/passwd && \
    echo 'pipeline:x:65532:' >> /etc/group
# A read-only root file system will do, with something writable at /tmp. The working directory is there, too, so it
# must not be a place that modules are imported from.
ENV PATH=/opt/venv/bin:$PATH \
    HOME=/tmp \
    USER=pipeline \
    XDG_CACHE_HOME=/tmp/.cache \
    MPLCONFIGDIR=/tmp/.matplotlib \
    KERAS_HOME=/tmp/.keras \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONSAFEPATH=1 \
    PYTHONUNBUFFERED=1
WORKDIR /tmp
USER 65532:65532
# No entry point: Kubeflow Pipelines names each stage's command, and people type `python -m pipeline.…` as everywhere.
CMD ["python", "-m", "pipeline.run_local", "--help"]

FROM runtime AS gpu
# For NVIDIA's container runtime; CUDA's libraries are Python packages, only the driver comes from the node. It reads
# NVIDIA_VISIBLE_DEVICES, too, which is not for an image to say: stages that ask for no GPU would see all of a node's.
ENV NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    CUDA_CACHE_PATH=/tmp/.cuda
COPY --from=gpu-packages /opt/venv /opt/venv
COPY --from=code /opt/code /opt/venv/lib/python3.11/site-packages
ARG REVISION=unknown
# The report of a run names it; the code in here is in no repository.
ENV SEGMENTATION_REVISION=${REVISION}
LABEL org.opencontainers.image.title="tfx-image-segmentation" \
      org.opencontainers.image.description="Every stage of the pipeline, with CUDA" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.revision="${REVISION}"

# The last target is the default.
FROM runtime AS cpu
COPY --from=cpu-packages /opt/venv /opt/venv
COPY --from=code /opt/code /opt/venv/lib/python3.11/site-packages
ARG REVISION=unknown
# The report of a run names it; the code in here is in no repository.
ENV SEGMENTATION_REVISION=${REVISION}
LABEL org.opencontainers.image.title="tfx-image-segmentation" \
      org.opencontainers.image.description="Every stage of the pipeline, for CPUs" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.revision="${REVISION}"
