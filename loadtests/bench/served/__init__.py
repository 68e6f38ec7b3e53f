"""`python -m loadtests.bench.served`: what a gateway costs in front of a vLLM that already runs, by `vllm bench serve`.

Read `turns` first: what is measured, in which order. `contestants` has the ways to the model, `tool` runs vLLM's own benchmark
through one of them, `report` says what came out. docs/performance.md has the method.
"""
