# The gateway alone: no torch, no compiler, no pip. Built from the repository's root: docker build -f deploy/gateway.Dockerfile .
FROM python:3.11.14-slim-bookworm AS build
WORKDIR /build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1

RUN python -m venv --without-pip /opt/passerelle
COPY requirements/gateway.txt requirements/
RUN python -m pip --python /opt/passerelle/bin/python install --no-deps --only-binary :all: --require-hashes -r requirements/gateway.txt

COPY deploy/build.txt deploy/
RUN python -m pip install --no-deps --require-hashes -r deploy/build.txt
COPY pyproject.toml README.md ./
COPY auth auth
COPY gateway gateway
COPY serving serving
RUN python -m pip wheel --no-deps --no-build-isolation --wheel-dir wheels . \
 && python -m pip --python /opt/passerelle/bin/python install --no-deps wheels/*.whl
COPY deploy/probe.py /opt/passerelle/probe.py

FROM python:3.11.14-slim-bookworm
RUN groupadd --gid 10001 passerelle \
 && useradd --uid 10001 --gid passerelle --no-create-home --home-dir /tmp --shell /usr/sbin/nologin passerelle \
 && install --directory --owner passerelle --group passerelle --mode 0700 /var/lib/passerelle
COPY --from=build /opt/passerelle /opt/passerelle
ENV PATH=/opt/passerelle/bin:/usr/local/bin:/usr/bin:/bin PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /var/lib/passerelle
USER 10001:10001
EXPOSE 8000
ENTRYPOINT ["passerelle"]
CMD ["gateway"]
