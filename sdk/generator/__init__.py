"""Makes the shapes of the clients in sdk/: models, requests and their parameters, from the OpenAPI document.

    python -m sdk.generator          writes the generated files
    python -m sdk.generator --check  says which of them are out of date

shapes.py      what the document says, as plain values
python.py      the Python client's files
unasync.py     its blocking half, from the one written with `async`
typescript.py  the TypeScript client's file

What a client does with them (retries, pages, waiting) is written by hand beside the generated files.
"""
