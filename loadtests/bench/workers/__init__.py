"""`python -m loadtests.bench.workers`: how much more a gateway answers with more workers, limits on Redis.

Read `turns` first: what is measured, in which order. `cores` says who runs where; `load` is a process of callers with a model
server of its own, and `loads` has several of them; `report` says what came out. docs/performance.md has the method.
"""
