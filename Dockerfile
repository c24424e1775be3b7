# Builds Ringback and puts the program and its sample configurations into a small image.
FROM rust:1-bookworm AS build
WORKDIR /build
COPY Cargo.toml Cargo.lock ./
COPY config config
COPY src src
# What was downloaded and built before is kept between builds of the image, so a change of the
# sources does not build the dependencies again.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/build/target \
    cargo build --release --locked --bin ringback \
    && cp target/release/ringback /usr/local/bin/ringback

FROM debian:bookworm-slim
# The certificates are for TLS to providers, receivers and the store.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin ringback \
    && install --directory --owner ringback /var/lib/ringback
COPY --from=build /usr/local/bin/ringback /usr/local/bin/ringback
COPY config /etc/ringback
USER ringback
# Where the embedded store is, unless the configuration says otherwise.
WORKDIR /var/lib/ringback
VOLUME /var/lib/ringback
EXPOSE 8080
ENTRYPOINT ["ringback"]
CMD ["serve"]
