"""Where is a request's prompt kept already, and where shall it be? For deployments with a prompt cache only.

What is expected to be read from a cache makes a call there cheaper and its first token sooner, which is all that keeps
a conversation where its prefix is warm: the one decision weighs it against load like any other cost. What it costs to
write a prefix is left out of the decision: it is only spent where it is expected to pay for itself.
"""
