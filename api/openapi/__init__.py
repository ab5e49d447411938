"""The OpenAPI document, generated from the routes' declarations.

document.py  the document and `/openapi.json`
parts.py     its shared parts: parameters, headers, problems
webhooks.py  its section of webhooks
examples.py  sample values
"""
