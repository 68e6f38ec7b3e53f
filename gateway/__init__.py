"""The gateway: one OpenAI-compatible door in front of the model servers.

Read `chat.py` first: it names every stage of one request, top to bottom. Then, in the order a request meets them:

    telemetry   request id, clock, one log line, its place in the `metrics` (pure ASGI)
    access      bearer token -> Principal
    delivery    the side towards the caller: limits and guards in, the answer or the error out, settled once
    limits      requests per minute
    protocol    bytes -> ChatRequest; `completions` and `embeddings` have requests of their own, `surface` tells them apart
    guardrails  what may come in, what may go out
    fit         which of a model's targets can take the request
    tries       the side towards the targets: asks until one gives a French answer
    routing     which target is asked, and what is asked after a failure or a drift
    admission   whether it may be asked now, or the request waits, or goes on to the next
    pool        which of its replicas: by their load, and only those whose breaker and probes let them
    upstream    one exchange with one model server
    ledger      what happened, once, on every way out

Imports point one way: `errors, protocol, settings` <- `guardrails, upstream, limits, ledger` <- `pool` <- `routing` <- `tries`
<- `delivery` <- `chat` <- `app`.
"""
