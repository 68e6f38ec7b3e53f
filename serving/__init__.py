"""The model server: hardware -> plan -> `vllm serve` arguments -> process. Imports nothing of ours, and never vllm.

Read `prepare` first. In the order a start meets them:

    profiles, model   what is known of a model: template, defaults, dimensions
    weights, hub      how large its weights are where its files are here
    hardware, cards   what this machine has, and what other machines' GPUs are
    plan              the command, its environment, and a reason for each setting
    gpu, cpu          the decisions behind it: what fits, cut and quantised how
    memory, throughput, quantisation   the arithmetic they weigh by
    nearest           what a refusal offers instead
    adapters          fine-tuned models beside their base
    embedded, dequantise   weights that come inside packages, made into a folder vLLM loads
    environment       which Python has vLLM
    shares            the machine divided between replicas
    server, leash, probe, log   the process: started, waited for, restarted within bounds, stopped without leftovers
    replicas          several of them
    commands          `passerelle plan` and `passerelle serve`
    describe, table   a plan for a reader; the plans of every card
    install, measure  run by hand or by make: build the environment; ask thirty French questions
"""
