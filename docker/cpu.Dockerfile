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
RUN pip install --index-url "$TORCH_INDEX" "$(grep '^torch==' constraints.txt)"
COPY resfields_ngp ./resfields_ngp
RUN pip install -c constraints.txt .

FROM debian:bookworm-slim
LABEL org.opencontainers.image.title="resfields-ngp" \
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
