# mrlift with what an archive needs: client, Dask scheduler and workers, and the BIDS-App.
#   docker build -t mrlift .
#   docker run --rm --user "$(id -u):$(id -g)" -v DATA:/data mrlift \
#       mrlift-bids /data/bids /data/bids/derivatives/mrlift participant
# Not the slim image: the engines need its C compiler.
FROM python:3.13-bookworm AS build
WORKDIR /source
COPY pyproject.toml hatch_build.py constraints.txt README.md LICENSE ./
COPY src ./src
RUN python -m venv /mrlift \
    && /mrlift/bin/pip install --no-cache-dir -c constraints.txt '.[archive,fast]'

FROM python:3.13-slim-bookworm
COPY --from=build /mrlift /mrlift
# Measured choices of an engine are kept in the cache; /tmp is there for any user.
ENV PATH=/mrlift/bin:$PATH XDG_CACHE_HOME=/tmp/cache PYTHONUNBUFFERED=1
RUN useradd --create-home --uid 10001 mrlift
USER 10001
WORKDIR /home/mrlift
CMD ["mrlift", "--help"]
