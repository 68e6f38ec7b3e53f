# The official vLLM image with a user of its own, who owns the folder of the weights: a volume made there belongs to that user.
# Built from the repository's root: docker build -f deploy/vllm.Dockerfile .
FROM vllm/vllm-openai:v0.24.0
RUN groupadd --gid 10001 passerelle \
 && useradd --uid 10001 --gid passerelle --no-create-home --home-dir /weights --shell /usr/sbin/nologin passerelle \
 && install --directory --owner passerelle --group passerelle --mode 0700 /weights
# Weights and compiled kernels stay on the volume: the root is read-only.
ENV HOME=/weights HF_HOME=/weights VLLM_CACHE_ROOT=/weights/.cache/vllm
WORKDIR /weights
USER 10001:10001
EXPOSE 8000
ENTRYPOINT ["python3", "-m", "vllm.entrypoints.openai.api_server"]
