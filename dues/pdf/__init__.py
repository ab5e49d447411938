"""PDF documents: templates that a designer can read, data as JSON, and a typesetter in a process of its own.

`typesetter.py` is what the rest of Dues calls; `compiler.py` is the process that it starts; `fonts.py` says which font
sets which script. The templates' common style is `templates/base.typ`; a slice's own lie in its folder `templates`.
"""

from dues.pdf.typesetter import TypesettingFailed, typeset

__all__ = ["TypesettingFailed", "typeset"]
