"""InvokeModel's bodies: each family of models has its own spelling, and each is read and written by way of Converse's.

A family is told how to spell the arguments of a Converse call, and how to tell its own answer in Converse's events, so
that what roles, tools, pictures and stop reasons mean is written once (`router.wire.aws.bedrock`). The families:
`anthropic` and `nova` speak in messages with tools and pictures; `llama`, `mistral` and `titan` take one text in the
model's own template; `openai` takes a chat completion as it is. Another family: a class beside these, and a line in
`families`.
"""
