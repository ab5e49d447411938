"""`/docs`: Swagger UI over `/openapi.json`, from files in its wheel; nothing is fetched from elsewhere."""

from flask import Flask, Response
from flask_swagger_ui import get_swaggerui_blueprint

# The page's own script stands in it; all else comes from here.
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; img-src 'self' data:"
)
_CONFIG = {
    "app_name": "Dues",
    # A token typed into Authorize survives a reload of the page.
    "persistAuthorization": True,
    "displayRequestDuration": True,
    "docExpansion": "none",
    "filter": True,
    # Would ask an online service what it thinks of the document.
    "validatorUrl": None,
}


def init_docs(app: Flask) -> None:
    pages = get_swaggerui_blueprint("/docs", "/openapi.json", config=_CONFIG, blueprint_name="docs")

    pages.after_request(_bound)
    app.register_blueprint(pages)
    # The page itself also without the slash, and without a redirect that a proxy might spoil.
    app.add_url_rule("/docs", endpoint="docs.page", view_func=app.view_functions["docs.show"])


def _bound(response: Response) -> Response:
    response.headers["Content-Security-Policy"] = _POLICY
    return response
