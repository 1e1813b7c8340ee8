# Serving only: the models that ship, ONNX Runtime, no torch. On CPUs; `--build-arg RUNTIME=gpu` brings CUDA's libraries
# (gpu-cuda12 those for older drivers), `--build-arg EXTRAS=yes` what the optional settings need: stores, signatures, traces,
# compressed bodies, HEIC.
FROM python:3.11-slim AS build
WORKDIR /src
ARG RUNTIME=cpu
ARG EXTRAS=
COPY deploy/requirements deploy/requirements
# Dependencies in a layer of their own: a changed source does not install them again. Whatever is installed has the hash that
# `make lock` wrote, what builds our wheel too; pip itself stays outside.
RUN python -m venv --without-pip /opt/resnet-serve \
    && python -m pip install --no-cache-dir --quiet --require-hashes --requirement deploy/requirements/build.txt \
    && python -m pip --python /opt/resnet-serve install --no-cache-dir --quiet \
        --require-hashes --requirement deploy/requirements/$RUNTIME.txt ${EXTRAS:+--requirement deploy/requirements/extras.txt}
# setup.py compiles what every request passes.
RUN { apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev; } || echo "no C compiler: nothing is compiled" >&2
COPY pyproject.toml setup.py README.md LICENSE ./
COPY models models
COPY service service
# `resnet-train` needs the package `training`, which is not here.
RUN python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir wheels . \
    && python -m pip --python /opt/resnet-serve install --no-cache-dir --quiet --no-deps wheels/*.whl \
    && rm /opt/resnet-serve/bin/resnet-train

FROM python:3.11-slim
LABEL org.opencontainers.image.title="resnet-serve" \
    org.opencontainers.image.description="Image classification over HTTP" \
    org.opencontainers.image.version="0.1.0" \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.base.name="docker.io/library/python:3.11-slim"
COPY --from=build /opt/resnet-serve /opt/resnet-serve
ENV PATH=/opt/resnet-serve/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    RESNET_SERVE_HOST=0.0.0.0
USER 10001:10001
EXPOSE 8000
# Ready, not only alive: a container without its models is of no use. Process 1 has the server's flags.
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s CMD ["resnet-serve", "health", "--of-process", "1"]
ENTRYPOINT ["resnet-serve"]
