# SPDX-License-Identifier: Apache-2.0
# The broker as an image: not root, no network, nothing to write but its socket.
#
#   docker build -t privcmdd .
#   docker run --rm --read-only --network none --cap-drop ALL -v "$dir":/run/privcmdd privcmdd
#
# $dir must be writable for uid 10001 (or give --user). Clients outside use $dir/broker.sock.
FROM python:3.11-slim-bookworm AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY broker broker
COPY clients/python clients/python
RUN python3 -m pip wheel --no-cache-dir --wheel-dir /wheels .

FROM python:3.11-slim-bookworm
LABEL org.opencontainers.image.title="privcmdd" \
      org.opencontainers.image.description="A privcmd in user space: simulated Xen guests to map memory of" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /wheels /wheels
RUN python3 -m pip install --no-cache-dir --no-index --find-links /wheels privcmdd \
 && rm -rf /wheels \
 && install -d -o 10001 -g 10001 -m 0770 /run/privcmdd
ENV PRIVCMDD_SOCKET=/run/privcmdd/broker.sock \
    PRIVCMDD_SERVER__REPORT_DIR=/run/privcmdd \
    PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s CMD ["privcmdctl", "ping"]
ENTRYPOINT ["privcmdd"]
CMD ["serve"]
