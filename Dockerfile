# syntax=docker/dockerfile:1
# One image for every process: web, workers, beat, migrations and the stand-in providers.

FROM python:3.12-slim AS packages
RUN python -m venv /venv
ENV PATH=/venv/bin:$PATH
COPY requirements/runtime.lock /tmp/
RUN pip install --disable-pip-version-check --no-cache-dir --require-hashes -r /tmp/runtime.lock

FROM python:3.12-slim
ENV PATH=/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    MPLCONFIGDIR=/tmp/matplotlib \
    DJANGO_SETTINGS_MODULE=automata_signal.settings \
    AUTOMATA_ENV=production \
    PRIVATE_FILES_DIR=/files \
    MEDIA_FILES_DIR=/media
# /sandbox is for the stand-in providers' certificates and keys, /files for uploads and exports, /media for what messages
# show: a volume mounted there takes its owner over.
RUN useradd --system --uid 10001 --home-dir /nonexistent --shell /usr/sbin/nologin automata \
    && install --directory --owner automata --mode 0700 /sandbox /files /media
WORKDIR /app
COPY --from=packages /venv /venv
COPY . .
# Production settings need secrets to load; these zeros open nothing and are not kept.
RUN nothing="$(head --bytes 32 /dev/zero | base64)" \
    && SECRET_KEY="$nothing" ENCRYPTION_KEYS="1:$nothing" TOKEN_DIGEST_KEY="$nothing" \
       python manage.py collectstatic --noinput --verbosity 0 \
    && python -m compileall -q automata_signal apps
USER automata
# Where the processes of a container add up what they count; made by the first of them.
ENV PROMETHEUS_MULTIPROC_DIR=/tmp/automata-metrics
EXPOSE 8000
# For the web; docker-compose.yml gives the other processes their own.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/healthz', timeout=3)"]
CMD ["granian", "--interface", "wsgi", "--host", "0.0.0.0", "--port", "8000", "--no-ws", "--workers", "2", "--blocking-threads", "4", "--respawn-failed-workers", "automata_signal.wsgi:application"]
