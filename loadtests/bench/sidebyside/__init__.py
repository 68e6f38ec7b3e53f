"""`make bench`: the gateway, a bare pass-through and other gateways side by side, on one core each, in one run.

Read `turns` first: what is measured, in which order. `fake` is the model server and `client` the callers, in one process on the
other core; `closed` and `arrivals` are the two ways of calling; `passerelle`, `rivals` and `bare` are the contestants, `servers`
starts and stops them; `figures`, `table` and `plot` say what came out. docs/performance.md has the method.
"""
