# CPU by default; for CUDA: docker build --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu128 -t invsolve .
FROM python:3.11-slim
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN pip install --no-cache-dir "torch>=2.6" torchvision --index-url ${TORCH_INDEX}
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY invsolve invsolve
RUN pip install --no-cache-dir ".[app,ray,heif,raw]"
WORKDIR /data
ENTRYPOINT ["invsolve"]
