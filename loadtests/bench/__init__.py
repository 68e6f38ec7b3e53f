"""Side-by-side benchmarks of the gateway's parts, run by hand: `python -m loadtests.bench.balancing --help`.

They import the product, which the load tests beside them never do, and need neither a model nor a running gateway.
"""
