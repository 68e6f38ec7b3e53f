"""The gateway: one OpenAI-compatible door in front of the model servers.

Read `chat.py` first: it names every stage of one request, top to bottom. Then, in the order a request meets them:

    telemetry   request id, clock, one log line, metrics (pure ASGI)
    access      bearer token -> Principal
    limits      requests per minute
    protocol    bytes -> ChatRequest
    guardrails  what may come in, what may go out
    routing     which target is asked, and what is asked after a failure or a drift
    pool        which of its replicas: by their load, and only those whose breaker lets them
    upstream    one streamed exchange with one model server
    ledger      what happened, once, on every way out

Imports point one way: `errors, protocol, settings` <- `guardrails, upstream, limits, ledger` <- `pool` <- `routing` <- `chat`
<- `app`.
"""
