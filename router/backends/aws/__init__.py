"""Models and their management on AWS, through aioboto3: who calls, with which credentials, and what goes wrong."""
