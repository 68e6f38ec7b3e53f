# The gateway alone: no torch, no compiler, no pip of its own. Built from the repository's root:
#   docker build -f deploy/gateway.Dockerfile .
# What it weighs, by part: docs/deployment.md, and `python -m tests.deploy.image` to measure it again.
FROM python:3.11.14-bookworm AS build
WORKDIR /build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1

RUN python -m venv --without-pip /opt/passerelle
COPY requirements/gateway.txt requirements/
RUN python -m pip --python /opt/passerelle/bin/python install --no-compile --no-deps --only-binary :all: --require-hashes -r requirements/gateway.txt

COPY deploy/build.txt deploy/
RUN python -m pip install --no-deps --require-hashes -r deploy/build.txt
COPY pyproject.toml README.md ./
COPY auth auth
COPY gateway gateway
COPY serving serving
RUN python -m pip wheel --no-deps --no-build-isolation --wheel-dir wheels . \
 && python -m pip --python /opt/passerelle/bin/python install --no-compile --no-deps wheels/*.whl

# Half of the environment is never read: C and Cython sources (51 MB of them eldc's), type stubs, debug symbols, packages' own tests.
RUN find /opt/passerelle/lib -type f \( -name '*.[ch]' -o -name '*.py[xi]' -o -name '*.px[di]' \) -delete \
 && find /opt/passerelle/lib -type d \( -name test -o -name tests \) -prune -exec rm -r {} + \
 && find /opt/passerelle/lib -type f -name '*.so*' -exec strip --strip-unneeded {} +
COPY deploy/probe.py deploy/check_image.py /opt/passerelle/
# What is left has to load, and to tell French from English.
RUN /opt/passerelle/bin/python -B /opt/passerelle/check_image.py

FROM python:3.11.14-slim-bookworm
RUN groupadd --gid 10001 passerelle \
 && useradd --uid 10001 --gid passerelle --no-create-home --home-dir /tmp --shell /usr/sbin/nologin passerelle \
 && install --directory --owner passerelle --group passerelle --mode 0700 /var/lib/passerelle
COPY --from=build /opt/passerelle /opt/passerelle
# The bytecode of what the health check imports, which starts six times a minute (2 MB; that of all would be 20 MB).
RUN python /opt/passerelle/probe.py --help
ENV PATH=/opt/passerelle/bin:/usr/local/bin:/usr/bin:/bin PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /var/lib/passerelle
USER 10001:10001
EXPOSE 8000
ENTRYPOINT ["passerelle"]
CMD ["gateway"]
