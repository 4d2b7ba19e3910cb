# The image of every stage, for CPUs or with CUDA's libraries.
#
#   make image                 docker build .
#   make image TARGET=gpu      docker build --build-arg LOCK=requirements/gpu.lock .
#
# The digests are placeholders that no registry has; docs/kubeflow.md says how to fill them. The first two images are of
# one Python release: one has what it takes to build a package from source, the other is what ships.
ARG BUILDER_IMAGE=python:3.11-bookworm@sha256:0000000000000000000000000000000000000000000000000000000000000000
ARG PYTHON_IMAGE=python:3.11-slim-bookworm@sha256:0000000000000000000000000000000000000000000000000000000000000000
# Whose tensorflow_model_server tries a model before it is pushed. `builder`, a stage below, has none: then the embedded
# server does.
ARG SERVING_IMAGE=tensorflow/serving:2.21.0@sha256:0000000000000000000000000000000000000000000000000000000000000000
# Whose boot starts a worker for an engine of the recipe's `beam` block, of the locked version of apache-beam. `builder`
# has none: then no engine can have this image as its worker.
ARG BEAM_IMAGE=apache/beam_python3.11_sdk:2.77.0@sha256:0000000000000000000000000000000000000000000000000000000000000000
ARG LOCK=requirements/cpu.lock
# The time of whatever is built: 1980, the first that a wheel can hold, unless told otherwise. Here, and in each stage:
# buildah before 1.29 does not hand on to a stage what the stage that it is built from declares.
ARG SOURCE_DATE_EPOCH=315532800

# hadolint ignore=DL3006
FROM ${BUILDER_IMAGE} AS builder
ARG SOURCE_DATE_EPOCH
# An index of one's own is named by the secret pip_conf, and the authority that signed it by the secret ca: neither
# ends in a layer, nor in the history of one.
ARG PIP_CERT
# Paths in debugging symbols would differ from build to build, and so does bytecode that is written on the way.
ENV CFLAGS=-g0 \
    PIP_CONFIG_FILE=/run/secrets/pip_conf \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore \
    PYTHONDONTWRITEBYTECODE=1
WORKDIR /build
COPY requirements/cpu.lock .
# What builds packages comes from the lock, too: build isolation would fetch whatever is newest. No pip goes into the
# environment: the base image's own installs into it.
RUN --mount=type=secret,id=pip_conf --mount=type=secret,id=ca \
    set -eu; \
    python -m venv --without-pip /opt/venv; \
    sed -n '/^\(setuptools\|wheel\)==/,/# via/p' cpu.lock > build.lock; \
    pip --python /opt/venv/bin/python install --no-compile --no-deps --require-hashes -r build.lock

FROM builder AS code
ARG SOURCE_DATE_EPOCH
COPY pyproject.toml README.md ./
COPY models models
COPY components components
COPY pipeline pipeline
# Bytecode is made here, because a container cannot write beside the code: without it, importing TFX and TFMA takes
# three times as long, at every stage's start. By hash, so that no time stamp is compared.
RUN set -eu; \
    pip --python /opt/venv/bin/python wheel --no-deps --no-build-isolation --wheel-dir dist .; \
    pip install --no-compile --no-deps --no-index --target /opt/code dist/*.whl; \
    python -m compileall -q --invalidation-mode unchecked-hash /opt/code

FROM builder AS packages
ARG SOURCE_DATE_EPOCH
ARG PIP_CERT
ARG LOCK
COPY ${LOCK} packages.lock
COPY requirements/signing.lock .
# What nobody loads goes: headers and what else is for compiling, libclang, stubs, the packages' own tests (h5py
# imports its), Google's APIs that neither Beam's file system nor its Dataflow runner imports, and symbols; not those of
# the libraries that wheels bring along in *.libs, which patchelf has moved things in, nor of NVIDIA's. cuSOLVER is linked
# to where TensorFlow looks for it; without it no GPU would be used (tensorflow/tensorflow#112973).
RUN --mount=type=secret,id=pip_conf --mount=type=secret,id=ca \
    set -eu; \
    pip --python /opt/venv/bin/python install --no-compile --no-deps --require-hashes --no-build-isolation \
        -r packages.lock -r signing.lock; \
    cd /opt/venv/lib/python3.11/site-packages; \
    if [ -d nvidia/cusolver ]; then ln -s ../../cusolver/lib/libcusolver.so.11 nvidia/cusparse/lib/; fi; \
    rm -rf tensorflow/include clang; \
    for api in bigtable datastore dlp kms language monitoring recommendationengine secretmanager spanner sql \
            videointelligence vision; do rm -rf google/cloud/${api}*; done; \
    find . -depth -type d -name tests ! -path './h5py/*' -exec rm -r {} +; \
    find . -type f ! -path './nvidia/*' \( -name '*.h' -o -name '*.hpp' -o -name '*.pyi' -o -name '*.pyx' -o -name '*.pxd' \
        -o -name '*.c' -o -name '*.cpp' -o -name '*.a' \) -delete; \
    find . -type f -name '*.so*' ! -path './*.libs/*' ! -path './nvidia/*' -exec strip --strip-unneeded {} +; \
    python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/venv/lib
COPY requirements/tools.lock .
# The list of the packages, CycloneDX: the tool that writes it is none of them, and does not stay.
RUN --mount=type=secret,id=pip_conf --mount=type=secret,id=ca \
    set -eu; \
    python -m venv --without-pip /opt/tools; \
    pip --python /opt/tools/bin/python install --no-compile --no-deps --require-hashes -r tools.lock; \
    /opt/tools/bin/cyclonedx-py environment --output-reproducible --output-file /opt/venv/sbom.cdx.json \
        /opt/venv/bin/python; \
    rm -r /opt/tools

# hadolint ignore=DL3006
FROM ${SERVING_IMAGE} AS serving
ARG SERVING_IMAGE
# hadolint ignore=DL3002
USER root
# With all libraries that it names. One that is linked statically names none, which `ldd` takes for an error.
RUN set -eu; \
    mkdir -p /opt/serving/bin /opt/serving/lib; \
    if [ "${SERVING_IMAGE}" != builder ]; then \
        server=$(command -v tensorflow_model_server) || \
            { echo "SERVING_IMAGE=${SERVING_IMAGE} has no tensorflow_model_server" >&2; exit 1; }; \
        cp --dereference "${server}" /opt/serving/bin; \
        ldd "${server}" > /tmp/libraries || true; \
        for library in $(sed -n 's/.* => \(\/[^ ]*\) .*/\1/p' /tmp/libraries); do \
            cp --dereference "${library}" /opt/serving/lib; done; \
    fi

# hadolint ignore=DL3006
FROM ${BEAM_IMAGE} AS worker
ARG BEAM_IMAGE
# hadolint ignore=DL3002
USER root
RUN set -eu; \
    mkdir -p /opt/worker; \
    if [ "${BEAM_IMAGE}" != builder ]; then \
        [ -x /opt/apache/beam/boot ] || \
            { echo "BEAM_IMAGE=${BEAM_IMAGE} has no /opt/apache/beam/boot" >&2; exit 1; }; \
        cp /opt/apache/beam/boot /opt/apache/beam/LICENSE /opt/apache/beam/NOTICE /opt/worker; \
    fi

# The last stage is what `docker build .` makes.
# hadolint ignore=DL3006
FROM ${PYTHON_IMAGE} AS runtime
# Some libraries ask who they run as, and fail for a number without a name. The interpreter's own modules come without
# bytecode: with it, `--help` takes a fifth of the time.
RUN set -eu; \
    echo 'pipeline:x:65532:65532:pipeline:/tmp:/usr/sbin/nologin' >> /etc/passwd; \
    echo 'pipeline:x:65532:' >> /etc/group; \
    python -m compileall -q -j 0 --invalidation-mode unchecked-hash -x '/(site-packages|tests?)/' \
        /usr/local/lib/python3.11
# Of the server's libraries only those that this image lacks: one C library for all. Whether the server starts with it is
# seen here and not in a stage.
COPY --from=serving /opt/serving/bin /usr/local/bin
COPY --from=serving /opt/serving/lib /opt/serving
RUN set -eu; \
    known=$(ldconfig -p); \
    for library in $(find /opt/serving -type f); do \
        case "${known}" in *"${library##*/} ("*) ;; *) mv "${library}" /usr/local/lib;; esac; done; \
    rm -r /opt/serving; \
    ldconfig; \
    rm -f /var/cache/ldconfig/aux-cache; \
    if command -v tensorflow_model_server; then tensorflow_model_server --version; fi
COPY --from=worker /opt/worker /opt/apache/beam
COPY --from=packages /opt/venv /opt/venv
# A layer of its own: a changed stage does not push the packages again.
COPY --from=code /opt/code /opt/venv/lib/python3.11/site-packages
# A read-only root file system will do, with something writable at /tmp. The working directory is there, too, so it
# must not be a place that modules are imported from. CUDA's libraries are Python packages, only the driver comes from
# the node: NVIDIA_DRIVER_CAPABILITIES is for NVIDIA's container runtime. It reads NVIDIA_VISIBLE_DEVICES, too, which
# is not for an image to say: stages that ask for no GPU would see all of a node's.
ENV PATH=/opt/venv/bin:$PATH \
    HOME=/tmp \
    USER=pipeline \
    XDG_CACHE_HOME=/tmp/.cache \
    MPLCONFIGDIR=/tmp/.matplotlib \
    KERAS_HOME=/tmp/.keras \
    CUDA_CACHE_PATH=/tmp/.cuda \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONSAFEPATH=1 \
    PYTHONUNBUFFERED=1 \
    RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT=1
# Beam's boot asks pip whether Beam is there, and starts no worker where nobody answers; by that variable it makes no
# environment of its own, without this project in it.
RUN set -eu; \
    if [ -e /opt/apache/beam/boot ]; then \
        ln -s /usr/local/lib/python3.11/site-packages/pip /opt/venv/lib/python3.11/site-packages/pip; \
        python -m pip show --quiet apache-beam; \
    fi
WORKDIR /tmp
USER 65532:65532
# No entry point: Kubeflow Pipelines names each stage's command, and people type `python -m pipeline.…` as everywhere.
CMD ["python", "-m", "pipeline.run_local", "--help"]
# Last, because every commit has another. The code inside, which is in no repository, reads the variable.
ARG REVISION=unknown
# Podman 4.3 compares ENV and LABEL with its cached layers as they are written here, and only RUN with what an argument
# is: without it, a commit that changes no code would be given the name of the commit before.
RUN set -eu; : "${REVISION}"
ENV SEGMENTATION_REVISION=${REVISION}
LABEL org.opencontainers.image.title="tfx-image-segmentation" \
      org.opencontainers.image.description="Every stage of the pipeline" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.revision="${REVISION}"
