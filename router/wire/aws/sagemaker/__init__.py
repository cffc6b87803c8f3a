"""What goes in and out of a model container behind a SageMaker endpoint: pure codecs, bytes to bytes.

SageMaker passes bodies through, so the container decides the spelling. Three are known: `openai` (chat completions:
vLLM and LMI), `tgi` (`inputs` and `parameters`, answered token by token: TGI and LMI's own schema) and `jumpstart`
(`inputs` and `parameters`, answered whole as `generated_text`, one or a list). The two that take text alone are given
the conversation as a transcript (see `transcript`). Parts of a stream split wherever the service cuts them.
"""
