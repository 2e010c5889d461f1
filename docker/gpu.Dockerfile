# syntax=docker/dockerfile:1
# resfields_ngp on a CUDA GPU. From the repository's root: docker build -f docker/gpu.Dockerfile -t resfields-ngp:gpu .
# No GPU is asked for while it is built. WITH_TCNN=0 leaves tinycudann and nerfacc out, and Triton serves.
# The CUDA that PyTorch's wheels are built for; it runs on drivers from 580 on.
ARG CUDA=13.0.2
ARG UBUNTU=24.04

FROM nvidia/cuda:${CUDA}-devel-ubuntu${UBUNTU} AS build
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
ARG WITH_TCNN=1
ARG TORCH_INDEX=https://download.pytorch.org/whl/cu130
# Compute capabilities: T4 and RTX 20, A100, RTX 30, RTX 40, H100, B200 and RTX 50.
ARG ARCHITECTURES="75;80;86;89;90;100;120"
ARG TCNN_COMMIT=6ee3546bda615f51abe684ce9edefeb414689135
ARG NERFACC_VERSION=0.5.3
ENV PATH=/opt/venv/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN apt-get update \
 && apt-get install -y --no-install-recommends \
      build-essential ca-certificates git ninja-build python3-dev python3-venv \
 && rm -rf /var/lib/apt/lists/*
RUN python3 -m venv /opt/venv
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
# Before the sources, so that a change of theirs does not build these again.
RUN pip install --index-url "$TORCH_INDEX" "$(grep '^torch==' constraints.txt)" \
 && pip install setuptools==80.9.0 wheel==0.45.1
RUN mkdir /wheels \
 && if [ "$WITH_TCNN" = 1 ]; then \
      TCNN_CUDA_ARCHITECTURES="$ARCHITECTURES" MAX_JOBS=4 \
        pip wheel --no-deps --no-build-isolation --wheel-dir /wheels \
        "git+https://github.com/NVlabs/tiny-cuda-nn/@${TCNN_COMMIT}#subdirectory=bindings/torch" \
      && TORCH_CUDA_ARCH_LIST="$(echo "$ARCHITECTURES" | sed -E 's/([0-9]+)([0-9])/\1.\2/g')" \
        MAX_JOBS=4 \
        pip wheel --no-deps --no-build-isolation --wheel-dir /wheels \
        "git+https://github.com/nerfstudio-project/nerfacc.git@v${NERFACC_VERSION}" \
      && pip install --no-deps /wheels/*.whl; \
    fi
COPY resfields_ngp ./resfields_ngp
RUN pip install --no-build-isolation -c constraints.txt '.[viewer]'

# Libraries without compilers; tinycudann's JIT fusion links against nvrtc.
FROM nvidia/cuda:${CUDA}-runtime-ubuntu${UBUNTU}
# Which sources these are: --build-arg REVISION="$(git rev-parse HEAD)".
ARG REVISION=unknown
LABEL org.opencontainers.image.title="resfields-ngp" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.description="Multi-view captures of something that moves, to one mesh per frame; CUDA" \
      org.opencontainers.image.licenses="MIT"
# No CUDA compiler; gcc nevertheless. Triton builds a few lines of C that launch its kernels, at their first run: it would
# not run without, hence gcc and Python's headers. Uid 1000 is Ubuntu's own user.
RUN apt-get update \
 && apt-get install -y --no-install-recommends gcc libc6-dev python3 python3-dev \
 && rm -rf /var/lib/apt/lists/* \
 && userdel --remove ubuntu \
 && useradd --create-home --uid 1000 resfields \
 && install -d -o resfields -g resfields /data /runs \
 && install -d -m 1777 /cache
COPY --from=build /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH HOME=/home/resfields PYTHONUNBUFFERED=1 \
    NUMBA_CACHE_DIR=/cache/numba TRITON_CACHE_DIR=/cache/triton TORCH_EXTENSIONS_DIR=/cache/torch \
    TCNN_CACHE_DIR=/cache/tcnn CUDA_CACHE_PATH=/cache/cuda \
    NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 1000:1000
WORKDIR /runs
HEALTHCHECK --interval=5m --timeout=2m CMD ["resfields-ngp", "doctor"]
# Exec form: SIGTERM of `docker stop` reaches the program, which saves a checkpoint.
ENTRYPOINT ["resfields-ngp"]
CMD ["--help"]
