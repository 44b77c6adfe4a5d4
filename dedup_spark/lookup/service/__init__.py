"""Look-ups over HTTP: `dedup-spark serve`. Starlette and uvicorn, the extra `serve`."""
