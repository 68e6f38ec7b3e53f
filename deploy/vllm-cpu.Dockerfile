# vLLM on the CPU with the embedded models, as `make demo` has it. Built from the repository's root:
#   docker build -f deploy/vllm-cpu.Dockerfile .
# torch comes from PyTorch's own index (serving/install.py says which and checks its SHA-256 where it is known).
FROM python:3.11.14-slim-bookworm AS build
WORKDIR /build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1

COPY requirements/uv.txt requirements/
RUN python -m pip install --no-deps --require-hashes -r requirements/uv.txt
COPY serving serving
RUN python serving/install.py --venv /opt/vllm --uv /usr/local/bin/uv --device cpu

FROM python:3.11.14-slim-bookworm
RUN groupadd --gid 10001 passerelle \
 && useradd --uid 10001 --gid passerelle --no-create-home --home-dir /tmp --shell /usr/sbin/nologin passerelle \
 && install --directory --owner passerelle --group passerelle --mode 0700 /models
COPY --from=build /opt/vllm /opt/vllm
COPY auth /app/auth
COPY gateway /app/gateway
COPY serving /app/serving
ENV PATH=/opt/vllm/bin:/usr/local/bin:/usr/bin:/bin PYTHONPATH=/app PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    PASSERELLE_VLLM_PYTHON=/opt/vllm/bin/python PASSERELLE_CACHE=/models XDG_CACHE_HOME=/models HF_HOME=/models/hub
WORKDIR /models
USER 10001:10001
EXPOSE 8000
ENTRYPOINT ["python", "-m", "gateway.cli"]
CMD ["serve", "--cpu", "--host", "0.0.0.0", "--port", "8000"]
