# Two stages: the first installs, the second runs. No secret is in the image: the first start makes them in /data.
ARG PYTHON=3.11.14-slim-bookworm

FROM python:${PYTHON} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /app
RUN python -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH
# Alone first, so that a change of code does not install everything anew.
COPY requirements*.txt ./
# docker build --build-arg EXTRAS="s3 documents"
ARG EXTRAS=""
RUN pip install --require-hashes -r requirements.txt \
    && for extra in $EXTRAS; do pip install --require-hashes -r "requirements-$extra.txt" || exit 1; done
COPY . .
# The root file system is read-only when it runs: bytecode is written now or never.
RUN pip install --no-deps --no-build-isolation --no-index -e . && python -m compileall -q /opt/venv /app

FROM python:${PYTHON}
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /data --shell /usr/sbin/nologin g4fsite \
    && install -d -o g4fsite -g g4fsite -m 0700 /data
COPY --from=build /opt/venv /opt/venv
COPY --from=build /app /app
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    DATA_DIR=/data \
    HOST=0.0.0.0
WORKDIR /app
USER g4fsite
VOLUME /data
EXPOSE 1337
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["python", "deploy/healthcheck.py"]
ENTRYPOINT ["deploy/start.sh"]
