# The page of its own (docs/page.md). Weights and videos stay outside, in two volumes.
#
#   docker build -t txt2video .                                                                    on a CPU
#   docker build -t txt2video --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu126 .     on an NVIDIA GPU
#   docker run -p 7860:7860 -v ./models:/data/models -v ./outputs:/data/outputs -v ./logins:/run/secrets/logins:ro txt2video
FROM python:3.12-slim

ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu

ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1

RUN pip install --index-url "$TORCH_INDEX" torch torchvision

COPY pyproject.toml setup.py README.md LICENSE style.css /source/
COPY javascript /source/javascript
COPY t2v_core /source/t2v_core
RUN pip install "/source[page]" && rm -r /source

# An id that volumes can be given to: chown 1000 models outputs
RUN useradd --uid 1000 --create-home txt2video && mkdir -p /data/models /data/outputs && chown -R txt2video /data
USER txt2video
WORKDIR /data
VOLUME ["/data/models", "/data/outputs"]
EXPOSE 7860

# The login is the one page that everybody gets.
HEALTHCHECK --start-period=60s --interval=30s --timeout=5s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:7860/login', timeout=4)"]

# Logins come from outside as a file with one USER:PASSWORD a line; without it nothing is served.
CMD ["python", "-m", "t2v_core", "serve", "--listen", "0.0.0.0", "--port", "7860", "--auth-file", "/run/secrets/logins"]
