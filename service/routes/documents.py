"""What describes the server to its users: the OpenAPI document, and Swagger UI that shows it, of files that ship.

The page refers to both relatively, and so it is right behind any prefix that a proxy adds.
"""

import secrets
from pathlib import Path

import fastapi_offline
from fastapi import FastAPI, Request, Response
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse

from service.routes.route_access import no_route

DOCUMENT, PAGE = "/openapi.json", "/docs"

_SWAGGER_UI = Path(fastapi_offline.__file__).parent / "static"
_FILES = {"swagger-ui-bundle.js": "text/javascript", "swagger-ui.css": "text/css"}
_POLICY = (
    "default-src 'none'; connect-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; "
    "script-src 'self' 'nonce-{nonce}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def add_documents(app: FastAPI, tag: str) -> None:
    """Give the application these routes, with this tag."""

    async def openapi(request: Request) -> JSONResponse:
        """The OpenAPI document."""
        prefix = request.scope.get("root_path", "")
        return JSONResponse(app.openapi() | ({"servers": [{"url": prefix}]} if prefix else {}))

    async def docs() -> HTMLResponse:
        """Swagger UI, with a nonce for its script."""
        page = get_swagger_ui_html(
            openapi_url=DOCUMENT[1:],
            title=app.title,
            swagger_js_url="docs/swagger-ui-bundle.js",
            swagger_css_url="docs/swagger-ui.css",
            swagger_favicon_url="data:,",
            oauth2_redirect_url=None,
        )
        nonce = secrets.token_urlsafe(16)
        text = bytes(page.body).decode().replace("<script>", f'<script nonce="{nonce}">')
        return HTMLResponse(text, headers={"content-security-policy": _POLICY.format(nonce=nonce)})

    async def file(request: Request, name: str) -> Response:
        """A script or style sheet of the page."""
        if name not in _FILES:
            raise no_route(request.scope)
        return FileResponse(_SWAGGER_UI / name, media_type=_FILES[name])

    for path, endpoint in ((DOCUMENT, openapi), (PAGE, docs), (f"{PAGE}/{{name}}", file)):
        app.add_api_route(path, endpoint, tags=[tag], include_in_schema=False, response_model=None)
