"""/docs: Swagger UI over /openapi.json, its script and style served from here, because a task may have no way out and
its callers' browsers none to a CDN."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import FileResponse, Response

ASSETS = Path(str(files("fastapi_offline"))) / "static"  # the package that brings them; nothing else of it is used
SCRIPT, STYLE = "swagger-ui-bundle.js", "swagger-ui.css"
PAGE_PATHS = frozenset({"/docs", f"/docs/{SCRIPT}", f"/docs/{STYLE}", "/openapi.json"})  # what the browser loads


def add_docs_page(app: FastAPI) -> None:
    """Serve the page and the two files that it loads."""
    page = get_swagger_ui_html(
        openapi_url="/openapi.json",
        title=app.title,
        swagger_js_url=f"/docs/{SCRIPT}",
        swagger_css_url=f"/docs/{STYLE}",
        swagger_favicon_url="data:,",
    )

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return page

    @app.get(f"/docs/{SCRIPT}", include_in_schema=False)
    async def script() -> Response:
        return FileResponse(ASSETS / SCRIPT, media_type="text/javascript")

    @app.get(f"/docs/{STYLE}", include_in_schema=False)
    async def style() -> Response:
        return FileResponse(ASSETS / STYLE, media_type="text/css")
