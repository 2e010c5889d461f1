# syntax=docker/dockerfile:1
# resfields_ngp on a CPU. From the repository's root: docker build -f docker/cpu.Dockerfile -t resfields-ngp:cpu .
FROM debian:bookworm-slim AS build
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# Where PyTorch's CPU build is; the ordinary index carries the CUDA one.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ENV PATH=/opt/venv/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates python3 python3-venv \
 && rm -rf /var/lib/apt/lists/*
RUN python3 -m venv /opt/venv
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
# Before the sources, so that a change of theirs does not fetch it again.
RUN pip install --index-url "$TORCH_INDEX" "$(grep '^torch==' constraints.txt)" \
 && pip install setuptools==80.9.0 wheel==0.45.1
COPY resfields_ngp ./resfields_ngp
RUN pip install --no-build-isolation -c constraints.txt '.[viewer]'

FROM debian:bookworm-slim
# Which sources these are: --build-arg REVISION="$(git rev-parse HEAD)".
ARG REVISION=unknown
LABEL org.opencontainers.image.title="resfields-ngp" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.description="Multi-view captures of something that moves, to one mesh per frame; CPU" \
      org.opencontainers.image.licenses="MIT"
RUN apt-get update \
 && apt-get install -y --no-install-recommends python3 \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --create-home --uid 1000 resfields \
 && install -d -o resfields -g resfields /data /runs /cache
COPY --from=build /opt/venv /opt/venv
# A mounted folder may belong to another user than ours: --user then works too, the cache is open.
RUN chmod 1777 /cache
ENV PATH=/opt/venv/bin:$PATH HOME=/home/resfields NUMBA_CACHE_DIR=/cache/numba PYTHONUNBUFFERED=1
USER 1000:1000
WORKDIR /runs
HEALTHCHECK --interval=5m --timeout=2m CMD ["resfields-ngp", "doctor"]
# Exec form: SIGTERM of `docker stop` reaches the program, which saves a checkpoint.
ENTRYPOINT ["resfields-ngp"]
CMD ["--help"]
