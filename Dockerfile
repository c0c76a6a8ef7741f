# The agent's image: `docker build .`. With `--target local`, the mock vendor and the local chain
# too, as compose.yaml uses them. Neither holds a secret: those come in through the environment.

FROM python:3.11.13-slim-bookworm AS build
ARG PIP_INDEX_URL
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
RUN python -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH
WORKDIR /src
# What is needed comes from pyproject.toml, at the versions of the lock, before the code: so that a
# change of the code installs nothing anew. No compiler is here, and none is needed.
COPY pyproject.toml requirements.lock ./
# pip takes no extras and no hashes in constraints.
RUN sed -E 's/^([a-z0-9._-]+)\[[^]]*\]/\1/; /^ +--hash=/d; s/ \\$//' requirements.lock > versions.txt
RUN python -c "import tomllib; p = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
        print('setuptools', *p['dependencies'], sep='\n')" > needed.txt \
    && pip install --only-binary :all: --constraint versions.txt --requirement needed.txt
COPY README.md ./
COPY domain domain
COPY ledger ledger
COPY tools tools
COPY graph graph
COPY server server
COPY mock_vendor mock_vendor
RUN pip install --no-deps --no-build-isolation .

FROM build AS build-local
# All of the extra but the embedded MongoDB, whose place a real one takes.
RUN python -c "import tomllib; p = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
        local = p['optional-dependencies']['local']; \
        print(*(one for one in local if not one.startswith('secantusdb')), sep='\n')" > local.txt \
    && pip install --only-binary :all: --constraint versions.txt --requirement local.txt

FROM python:3.11.13-slim-bookworm AS base
RUN groupadd --gid 10001 renter \
    && useradd --uid 10001 --gid renter --no-create-home --home-dir /tmp --shell /usr/sbin/nologin renter \
    && install --directory --owner renter --group renter --mode 0750 /data
# Only /data and /tmp are written to, so the root may be mounted read-only.
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp \
    DATA_DIR=/data \
    HOST=0.0.0.0 \
    PORT=3000 \
    LOG_FORMAT=json
USER 10001:10001
WORKDIR /data
VOLUME ["/data"]
ENTRYPOINT ["gpu-renter"]
CMD ["serve"]
EXPOSE 3000
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as u; u.urlopen(f'http://127.0.0.1:{os.environ[\"PORT\"]}/healthz', timeout=2)"]

FROM base AS local
COPY --from=build-local /opt/venv /opt/venv

FROM base AS agent
COPY --from=build /opt/venv /opt/venv
