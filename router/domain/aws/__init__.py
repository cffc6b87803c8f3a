"""What only deployments on Amazon Bedrock and SageMaker have: how they are called, what they reserve and keep."""
