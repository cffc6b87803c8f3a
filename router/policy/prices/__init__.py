"""What do a model's tokens cost?

`listed` is one row of a price list and how rows are found by name, `shipped` the list that comes with the router,
`litellm` reads a list of LiteLLM's, `book` puts them in order of precedence, `pricing` gives a deployment its price.
"""
