# Two images: each is a released binary in an otherwise almost empty file system.
#
#   docker build -t openexec:0.2.0 --build-arg SOURCE_DATE_EPOCH="$(git log -1 --format=%ct)" .
#   docker build -t openexec-postgres:0.2.0 --build-arg SOURCE_DATE_EPOCH="$(git log -1 --format=%ct)" --target postgres .
#
# The builder runs on the architecture that is built for (--platform), and .ci/release builds for the
# one it runs on. This compiler, with its own linker, is what the released bytes were made with.
FROM rust:1.95.0-slim-bookworm AS source
# The compiler is the image's own; rust-toolchain.toml, which names the same, would add tools.
ENV RUSTUP_TOOLCHAIN=1.95.0
WORKDIR /source
COPY . .
RUN rustup target add "$(uname -m)-unknown-linux-musl"

FROM source AS build-postgres
ARG SOURCE_DATE_EPOCH
RUN .ci/release "$(uname -m)-unknown-linux-musl" postgres \
 && install -D dist/openexec-postgres /image/openexec-postgres \
 && install -d -m 700 /image/run/openexec

FROM source AS build-files
ARG SOURCE_DATE_EPOCH
RUN .ci/release "$(uname -m)-unknown-linux-musl" service \
 && install -D dist/openexec /image/openexec \
 && install -d -m 700 /image/data

# Certificates, time zones, /etc/passwd with a user 65532 and an empty /tmp; no shell, no libc.
FROM gcr.io/distroless/static-debian13:nonroot AS image
LABEL org.opencontainers.image.description="The boundary between an AI agent that proposes and the infrastructure that acts" \
      org.opencontainers.image.version="0.2.0" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.vendor="OpenExec" \
      org.opencontainers.image.base.name="gcr.io/distroless/static-debian13:nonroot"
USER 65532:65532
# Demo mode is refused beyond loopback: `docker run` needs clawshield settings, or
# OPENEXEC_ALLOW_EXPOSED_DEMO=yes.
ENV OPENEXEC_LISTEN=0.0.0.0:5000
EXPOSE 5000
# There is no shutdown to wait for: what was answered is on the disk, or in the database, and this is the tested way to
# stop it. SIGTERM would not end process 1, and `docker stop` would wait in vain.
STOPSIGNAL SIGKILL

FROM image AS postgres
LABEL org.opencontainers.image.title="OpenExec over PostgreSQL"
COPY --from=build-postgres --chown=65532:65532 /image/ /
# What a process needs on its host while it runs; nothing of it is kept.
ENV RUNTIME_DIRECTORY=/run/openexec
# The process lives; whether it is the active node, /ready says.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["/openexec-postgres", "healthcheck"]
ENTRYPOINT ["/openexec-postgres"]

# The last one, and so the one that is built where none is named.
FROM image AS files
LABEL org.opencontainers.image.title="OpenExec"
COPY --from=build-files --chown=65532:65532 /image/ /
WORKDIR /data
ENV OPENEXEC_DB_URL=file:/data/store
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["/openexec", "healthcheck"]
ENTRYPOINT ["/openexec"]
