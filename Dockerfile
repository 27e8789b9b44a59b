# SPDX-License-Identifier: Apache-2.0
# The broker, the command privcmdctl, and the libraries that programs under test in other images need.
#
#   make image
#   docker run --rm --read-only --network none --cap-drop ALL -v "$dir":/run/privcmdd privcmdd
#
# $dir must be writable for uid 10001 (or give --user). Clients outside use $dir/broker.sock. Other images take the
# libraries by: COPY --from=privcmdd /usr/local/lib/privcmdd /usr/local/lib/privcmdd

# A tag, which moves. `make image` asks the registry which image it is today, builds on that one by its digest, and the
# label org.opencontainers.image.base.digest says which it was. BASE=python@sha256:... builds on the same one again.
ARG BASE=python:3.11-slim-bookworm

# What the broker runs on, by hashes. A stage and a layer of its own: it changes seldom.
FROM ${BASE} AS packages
COPY requirements/run.txt /
RUN python3 -m venv --without-pip /opt/privcmdd \
 && python3 -m pip --python /opt/privcmdd/bin/python install --no-cache-dir --require-hashes --only-binary :all: -r /run.txt

FROM packages AS build
RUN apt-get update \
 && apt-get install -y --no-install-recommends gcc libc6-dev make
COPY requirements/build.txt /
RUN python3 -m venv /opt/build \
 && /opt/build/bin/python -m pip install --no-cache-dir --require-hashes -r /build.txt
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY broker broker
COPY clients clients
# There is no git to ask. The libraries come with the wheel.
ARG VERSION=0+unknown
RUN SETUPTOOLS_SCM_PRETEND_VERSION=$VERSION PRIVCMDD_SHIM=required \
    /opt/build/bin/python -m pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /wheels . \
 && python3 -m pip --python /opt/privcmdd/bin/python install --no-cache-dir --no-deps --no-index --root /made /wheels/*.whl \
 && mkdir -p /made/usr/local/lib \
 && mv /made/opt/privcmdd/lib/python3.*/site-packages/privcmd/lib /made/usr/local/lib/privcmdd \
 && for packages in /made/opt/privcmdd/lib/python3.*/site-packages; do \
        ln -s /usr/local/lib/privcmdd "$packages/privcmd/lib"; \
    done
COPY config/image/entrypoint /made/usr/local/bin/privcmdd-entrypoint

FROM ${BASE}
COPY --from=packages /opt/privcmdd /opt/privcmdd
COPY --from=build /made /
RUN install -d -o 10001 -g 10001 -m 0770 /run/privcmdd
ENV PATH=/opt/privcmdd/bin:$PATH \
    PRIVCMDD_SOCKET=/run/privcmdd/broker.sock \
    PRIVCMDD_SERVER__REPORT_DIR=/run/privcmdd \
    PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s CMD ["privcmdctl", "ping"]
ENTRYPOINT ["privcmdd-entrypoint"]
CMD ["serve"]
# Last, because they change with each build, and nothing below has to be built again for them.
ARG VERSION=0+unknown
ARG REVISION=unknown
ARG SOURCE=unknown
ARG BASE
ARG BASE_DIGEST=unknown
LABEL org.opencontainers.image.title="privcmdd" \
      org.opencontainers.image.description="A privcmd in user space: simulated Xen guests to map memory of" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.base.name="${BASE}" \
      org.opencontainers.image.base.digest="${BASE_DIGEST}"
