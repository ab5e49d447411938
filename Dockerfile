# Dues as a container: web, worker and relay are one image with different commands. It runs as nobody in particular, on a
# root that may be read-only; what it writes goes to DUES_HOME (small: numbers for /metrics) and FILES_DIR (reports).
#
#   docker build -t dues .                                                   without OpenTelemetry
#   docker build -t dues --build-arg REQUIREMENTS=requirements-otel.txt .    with it
#   docker run --read-only --tmpfs /run/dues:uid=10001 -v dues-files:/files -e DATABASE_URL=… dues

FROM python:3.11-slim-bookworm AS build
# Which packages are in it: those of requirements.txt, or of requirements-otel.txt, which has these and what traces need.
ARG REQUIREMENTS=requirements.txt
COPY requirements.txt requirements-otel.txt /requirements/
RUN python -m venv /venv \
    && /venv/bin/pip install --no-cache-dir --disable-pip-version-check -r "/requirements/$REQUIREMENTS"

FROM python:3.11-slim-bookworm
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin dues \
    && install -d -o dues -g dues -m 700 /files /run/dues
COPY --from=build /venv /venv
WORKDIR /app
COPY config.py urls.py gunicorn.conf.py server.py wsgi.py LICENSE ./
COPY api api
COPY dues dues
COPY workers workers
COPY migrations migrations
# Nothing can be compiled later on a root that is read-only.
RUN python -m compileall -q /app
ENV PATH=/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOST=0.0.0.0 \
    DUES_HOME=/run/dues \
    FILES_DIR=/files
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM
# web; worker: python -m workers.supervisor; relay: python -m workers.relay; release: flask --app wsgi migrate
CMD ["gunicorn", "--config", "gunicorn.conf.py", "server:app"]
