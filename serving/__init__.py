"""The model server: hardware -> plan -> `vllm serve` arguments -> process. Imports nothing of ours, and never vllm.

Read `prepare` first. In the order a start meets them:

    profiles, model   what is known of a model: template, defaults, dimensions
    hardware          what this machine has
    plan              the command, its environment, and a reason for each setting
    embedded, dequantise   weights that come inside packages, made into a folder vLLM loads
    environment       which Python has vLLM
    shares            the machine divided between replicas
    server, leash, probe, log   the process: started, waited for, restarted within bounds, stopped without leftovers
    replicas          several of them
    commands          `passerelle plan` and `passerelle serve`
    install, measure  run by hand or by make: build the environment; ask thirty French questions
"""
