# Serving only: the models that ship, ONNX Runtime, no torch. On CPUs; `--build-arg RUNTIME=gpu` brings CUDA's libraries.
FROM python:3.11-slim AS build
RUN python -m venv /opt/resnet-serve
WORKDIR /src
ARG RUNTIME=cpu
COPY pyproject.toml ./
# Dependencies in a layer of their own: a changed source does not install them again.
RUN python -c "import tomllib; p = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
        print(*p['dependencies'], *p['optional-dependencies']['$RUNTIME'], sep='\n')" > requirements.txt \
    && /opt/resnet-serve/bin/python -m pip install --no-cache-dir --quiet --requirement requirements.txt
COPY README.md LICENSE ./
COPY models models
COPY service service
# `resnet-train` needs the package `training`, which is not here.
RUN /opt/resnet-serve/bin/python -m pip install --no-cache-dir --quiet --no-deps . \
    && rm /opt/resnet-serve/bin/resnet-train

FROM python:3.11-slim
COPY --from=build /opt/resnet-serve /opt/resnet-serve
ENV PATH=/opt/resnet-serve/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    RESNET_SERVE_HOST=0.0.0.0
USER 10001:10001
EXPOSE 8000
# Ready, not only alive: a container without its models is of no use. Process 1 has the server's flags.
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s CMD ["resnet-serve", "health", "--of-process", "1"]
ENTRYPOINT ["resnet-serve"]
