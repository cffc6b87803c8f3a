"""Which SageMaker answers when there is no account? Endpoints with variants, components, containers and sessions."""
