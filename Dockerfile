# One image for operator, proxy, command line and demo.
ARG BASE_IMAGE=python:3.12-slim

FROM ${BASE_IMAGE} AS build
WORKDIR /src
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python3 -m venv /opt/stickyroute
# The pinned dependencies first: this layer stays while only our own source changes.
COPY requirements/image.txt requirements/
RUN /opt/stickyroute/bin/pip install --no-compile --require-hashes -r requirements/image.txt
COPY pyproject.toml README.md LICENSE ./
COPY api api
COPY operator operator
COPY proxy proxy
COPY cli cli
# Compiled here, because the root file system is read-only where it runs; unchecked, because nothing changes there.
RUN /opt/stickyroute/bin/pip install --no-compile --no-deps . \
 && /opt/stickyroute/bin/pip uninstall --yes --quiet pip setuptools \
 && python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/stickyroute/lib

FROM ${BASE_IMAGE}
LABEL org.opencontainers.image.title=stickyroute \
      org.opencontainers.image.description="An ingress whose one subject is session affinity" \
      org.opencontainers.image.licenses=Apache-2.0
COPY --from=build /opt/stickyroute /opt/stickyroute
# The allocator's settings keep large bodies from being mapped and unmapped for every chunk.
ENV PATH=/opt/stickyroute/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    MALLOC_MMAP_THRESHOLD_=33554432 \
    MALLOC_TRIM_THRESHOLD_=268435456 \
    MALLOC_TOP_PAD_=16777216
USER 65532:65532
WORKDIR /tmp
CMD ["stickyroute", "--help"]
