"""How does a sender ask for several independent answers at once, and how are they given back?

`metadata.subqueries` lists the parts, `metadata.merge` says what is made of their answers. A part, and the merge, is
the request itself with its last user message replaced, and with fields of its own in place of the request's. So
everything that can be said of a request can be said of each. A part has no parts.
"""
