"""Speed and memory of kernel_runtime beside its peers: ``python -m benchmarks``."""
