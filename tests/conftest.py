"""Shared set-up: tests work on small tensors, for which one thread is the fastest."""

import torch

torch.set_num_threads(1)

pytest_plugins = ["app_page"]
