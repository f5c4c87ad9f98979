# CPU by default; for CUDA: docker build --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu128 -t invsolve .
FROM python:3.11-slim
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
# Kubernetes' operator of Ray asks with wget whether a container is well, and needs ray[default] to answer.
RUN apt-get update && apt-get install -y --no-install-recommends wget && rm -rf /var/lib/apt/lists/*
RUN pip install --no-cache-dir "torch>=2.6" torchvision --index-url "${TORCH_INDEX}"
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY invsolve invsolve
RUN pip install --no-cache-dir ".[app,ray,heif,raw]" "ray[default]>=2.40"
WORKDIR /data
ENTRYPOINT ["invsolve"]
