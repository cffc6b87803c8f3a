"""The backends that speak to AWS, by kind. The SDK is loaded when one is first made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from router.ports.backend import Backend


def _bedrock() -> Backend:
    from router.backends.aws.bedrock import BedrockBackend

    return BedrockBackend()


def _sagemaker() -> Backend:
    from router.backends.aws.sagemaker import SageMakerBackend

    return SageMakerBackend()


AWS_BACKENDS: Mapping[str, Callable[[], Backend]] = MappingProxyType({"bedrock": _bedrock, "sagemaker": _sagemaker})
