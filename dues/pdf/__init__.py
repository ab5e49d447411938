"""PDF documents: templates that a designer can read, data as JSON, and a typesetter in a process of its own.

`typesetter.py` is what the rest of Dues calls; `compiler.py` is the process that it starts; `fonts.py` says which font
sets which script; `language.py` has the words of documents, dates and amounts in each of their languages. The
templates' common style is `templates/base.typ`; a slice's own lie in its folder `templates`.

Nothing is imported here, so that the process loads no more than it needs: it starts in a seventh of the time.
"""
